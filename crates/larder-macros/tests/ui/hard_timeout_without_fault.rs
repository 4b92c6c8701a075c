use larder::cached;

#[derive(Debug)]
struct Down;

#[cached(hard_timeout = "2s")]
async fn f(id: u8) -> Result<u8, Down> {
    if id == 0 { Err(Down) } else { Ok(id) }
}

fn main() {}
