use larder::cached;

#[derive(Clone)]
struct Client;

impl Client {
    #[cached]
    async fn user(&self, id: u8) -> u8 {
        id
    }
}

fn main() {}
