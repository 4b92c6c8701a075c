use larder::cached;

#[derive(Clone)]
struct Client;

impl Client {
    #[cached]
    async fn change(&mut self) -> u8 {
        1
    }

    #[cached]
    async fn take(self) -> u8 {
        1
    }
}

fn main() {}
