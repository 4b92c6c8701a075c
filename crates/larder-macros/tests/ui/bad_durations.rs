use larder::cached;

#[cached(ttl = "30 parsecs", stale = 5, negative_ttl)]
async fn f(id: u8) -> Result<u8, u8> {
    Ok(id)
}

fn main() {}
