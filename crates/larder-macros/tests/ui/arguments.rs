use larder::cached;

#[cached]
async fn f(id: impl Send, (a, b): (u8, u8), out: &mut u8) -> u8 {
    a + b
}

fn main() {}
