use larder::cached;

#[cached(hard_timeout = "2s")]
async fn f(id: u8) -> Result<u8, String> {
    Ok(id)
}

fn main() {}
