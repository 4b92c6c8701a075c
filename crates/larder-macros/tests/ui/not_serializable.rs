use larder::cached;

#[derive(Clone)]
struct Row(u8);

#[cached]
async fn f(id: u8) -> Row {
    Row(id)
}

fn main() {}
