#[larder::test]
fn plain() {}

#[larder::test(flavor = "multi")]
async fn with_options() {}

#[larder::test]
async fn with_argument(number: u8) {
    let _ = number;
}

fn main() {}
