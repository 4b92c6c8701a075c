use larder::cached;

#[cached(key = 5, jitter = 0.7, companion = "name", strategy, tags = "a")]
async fn f(id: u8) -> u8 {
    id
}

fn main() {}
