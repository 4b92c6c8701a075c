//! The page at `/`.

use std::fmt::Write as _;

use super::Service;

const LINKS: [(&str, &str); 11] = [
    ("/ticker/BTCUSDT", "the newest prices"),
    ("/orderbook/BTCUSDT?depth=20", "open orders"),
    ("/exchange-info", "what can be traded"),
    ("/candles/BTCUSDT?interval=1h&limit=100", "candles"),
    ("/indicators/BTCUSDT/rsi?interval=1h", "an indicator: rsi, macd, bollinger"),
    ("/users/1/preferences", "what a user has set (GET, PUT)"),
    ("/users/1/positions", "what a user holds"),
    ("/stats", "figures"),
    ("/healthz", "health"),
    ("/livez", "whether the process is to be left alone"),
    ("/readyz", "whether requests should come here"),
];

/// The page, with figures as they are now.
pub(super) fn page(service: &Service) -> String {
    let stats = service.cache().stats();
    let mut links = String::new();
    let first = service.exchange().first_symbol();
    for (path, what) in LINKS {
        let path = path.replace("BTCUSDT", &first);
        push(&mut links, &format!("<li><a href=\"{path}\"><code>{path}</code></a> {what}</li>\n"));
    }
    let mut rows = String::new();
    for info in service.cache().regions() {
        let name = info.name.rsplit("::").next().unwrap_or(&info.name);
        let rate = info.hit_rate().map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", rate * 100.0));
        let (hits, misses, entries) = (info.hits(), info.misses(), info.entries);
        push(
            &mut rows,
            &format!("<tr><td>{name}</td><td>{rate}</td><td>{hits}</td><td>{misses}</td><td>{entries}</td></tr>\n"),
        );
    }
    let (served, queries) = (service.exchange().served(), service.database().queries());
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"5\">\n\
         <title>Larder demo</title>\n\
         <style>body{{font:16px sans-serif;margin:2em auto;max-width:50em}}td,th{{padding:.2em 1em .2em 0;text-align:left}}\
         pre{{background:#eee;padding:1em}}</style></head>\n\
         <body><h1>Larder demo</h1>\n<p>A trading service with a cache. Reload a link and look at its <code>x-cache</code> \
         header.</p>\n<ul>\n{links}<li><a href=\"/metrics\"><code>/metrics</code></a> for Prometheus</li>\n\
         <li><code>PUT /candles/{first}</code>, <code>POST /invalidate/symbol/{first}</code></li></ul>\n\
         <h2>Cached functions</h2>\n<table><tr><th>function</th><th>hit rate</th><th>hits</th><th>misses</th>\
         <th>entries</th></tr>\n{rows}</table>\n<h2>All together</h2>\n<pre>{stats}</pre>\n\
         <p>The exchange has served {served} requests, the database {queries} statements.</p></body></html>\n"
    )
}

fn push(text: &mut String, more: &str) {
    text.write_str(more).expect("writing to a string cannot fail");
}
