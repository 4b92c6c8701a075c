use larder::cached;

#[cached]
async fn nothing(id: u8) {
    let _ = id;
}

#[cached]
async fn opaque(id: u8) -> impl Send {
    id
}

#[cached]
async fn hidden(id: u8) -> Result<impl Send, u8> {
    Ok::<_, u8>(id)
}

#[cached]
async fn formatted(id: u8) -> std::fmt::Result {
    let _ = id;
    Ok(())
}

#[cached]
async fn borrowed(name: &str) -> Option<&str> {
    Some(name)
}

#[cached(cache_none = "1s", negative_ttl = "1s", hard_timeout = "1s")]
async fn plain(id: u8) -> u8 {
    id
}

fn main() {}
