//! The server's address, fit to be shown: without user and password.

/// What may be shown of a URL: scheme, host, port, database or path.
pub(crate) fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // Not a URL: there is no telling which part of it is secret.
        return "the given URL".to_owned();
    };
    // A login stands before the last `@`, or, for a socket, in the query.
    let place = match scheme {
        "unix" | "redis+unix" | "valkey+unix" => rest.split('?').next(),
        _ => rest.rsplit('@').next().and_then(|place| place.split('?').next()),
    };
    format!("{scheme}://{}", place.unwrap_or_default())
}

/// Text in which the login of a URL is hidden, such as an argument that is repeated in an error. Line by line, from `://`
/// to the last `@`: a password may hold anything.
pub(crate) fn without_logins(text: &str) -> String {
    text.split_inclusive('\n').map(hidden_login).collect()
}

fn hidden_login(line: &str) -> String {
    let Some((before, rest)) = line.split_once("://") else { return line.to_owned() };
    let rest = rest.rsplit_once('@').map_or_else(|| rest.to_owned(), |(_, place)| format!("***@{place}"));
    let Some((place, query)) = rest.split_once('?') else { return format!("{before}://{rest}") };
    let end = query.find(|it: char| it.is_whitespace() || it == '\'').unwrap_or(query.len());
    format!("{before}://{place}?***{}", &query[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_login() {
        for (url, shown) in [
            ("redis://ada:hunter2@cache:6379/2", "redis://cache:6379/2"),
            ("redis://:p@ss?hunter2@cache", "redis://cache"),
            ("redis://cache?pass=hunter2", "redis://cache"),
            ("unix:///run/redis.sock?db=1&pass=a@hunter2", "unix:///run/redis.sock"),
            ("hunter2", "the given URL"),
        ] {
            assert_eq!(without_login(url), shown);
        }
    }

    #[test]
    fn a_login_within_a_text_is_hidden() {
        let text = "unrecognized subcommand 'redis://ada:hunter 2@cache:6379'\n  unix:///s?pass=hunter2 more";
        let shown = without_logins(text);
        assert_eq!(shown, "unrecognized subcommand 'redis://***@cache:6379'\n  unix:///s?*** more");
    }
}
