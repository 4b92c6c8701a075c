use larder::cached;

#[cached]
struct S;

trait T {
    #[cached]
    async fn f(&self) -> u8;
}

fn main() {}
