use larder::cached;

#[cached(ttl = "30 parsecs", stale = 5, cache_none)]
async fn f(id: u8) -> Option<u8> {
    Some(id)
}

fn main() {}
