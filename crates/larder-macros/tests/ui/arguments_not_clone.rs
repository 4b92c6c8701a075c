use larder::cached;

struct Database;

#[cached(skip(db))]
async fn f(db: Database, id: u8) -> u8 {
    let _ = db;
    id
}

struct Client;

impl Client {
    #[cached(skip(self))]
    async fn user(&self, id: u8) -> u8 {
        id
    }
}

fn main() {}
