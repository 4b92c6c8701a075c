use larder::cached;

type Result<T> = std::result::Result<T, String>;

#[cached]
async fn nothing(id: u8) {
    let _ = id;
}

#[cached]
async fn opaque(id: u8) -> impl Send {
    id
}

#[cached]
async fn alias(id: u8) -> Result<u8> {
    Ok(id)
}

#[cached(cache_none = "1s", negative_ttl = "1s", hard_timeout = "1s")]
async fn plain(id: u8) -> u8 {
    id
}

fn main() {}
