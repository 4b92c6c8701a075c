use larder::cached;

fn key(id: &u8) -> String {
    id.to_string()
}

#[cached(key = "a:{id}", key_fn = key)]
async fn f(id: u8) -> u8 {
    id
}

#[cached(key = "a:{id}", skip(id))]
async fn g(id: u8) -> u8 {
    id
}

#[cached(ttl = "1s", ttl = "2s", near = true, inline)]
fn h(id: u8) -> u8 {
    id
}

fn main() {}
