use larder::cached;

#[cached(tll = "30s", colour = "red")]
async fn f(id: u8) -> u8 {
    id
}

fn main() {}
