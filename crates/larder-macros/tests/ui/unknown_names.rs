use larder::cached;

#[cached(key = "user:{idd}", tags = ["user:{name}"])]
async fn f(id: u8) -> u8 {
    id
}

#[cached(skip(db))]
async fn g(id: u8) -> u8 {
    id
}

fn main() {}
