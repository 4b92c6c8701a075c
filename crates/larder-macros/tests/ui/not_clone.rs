use larder::cached;

#[derive(serde::Serialize, serde::Deserialize)]
struct Big(u8);

#[cached]
async fn f(id: u8) -> Big {
    Big(id)
}

fn main() {}
