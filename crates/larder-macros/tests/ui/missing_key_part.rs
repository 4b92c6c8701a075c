use larder::cached;

#[derive(Clone)]
struct Database;

#[cached]
async fn f(db: Database, id: u8) -> u8 {
    let _ = db;
    id
}

fn main() {}
