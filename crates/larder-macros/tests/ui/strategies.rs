use larder::cached;

#[cached(strategy = api_respons)]
async fn f(id: u8) -> u8 {
    id
}

fn main() {}
