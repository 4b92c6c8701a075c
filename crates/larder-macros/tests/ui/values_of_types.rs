use larder::cached;

#[cached(version = "two")]
async fn f(id: u8) -> u8 {
    id
}

fn main() {}
