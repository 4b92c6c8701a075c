use larder::cached;

#[cached(crate = 5)]
async fn f(id: u8) -> u8 {
    id
}

fn main() {}
