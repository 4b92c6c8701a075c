use larder::{cached, key};

#[cached(key = "user:{id", tags = ["user:id}", "{}", 5], region = "api:")]
async fn f(id: u8) -> u8 {
    id
}

fn main() {
    let id = 1;
    let _ = key!("user:{id}:{}");
    let _ = key!("user", id);
    let _ = key!("user:{id + 1}");
}
