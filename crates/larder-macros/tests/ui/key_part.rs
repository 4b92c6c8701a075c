use larder::KeyPart;

#[derive(KeyPart)]
union U {
    a: u8,
    b: i8,
}

#[derive(KeyPart)]
struct S {
    #[key(ignore)]
    a: u8,
}

#[derive(KeyPart)]
struct N(std::time::Instant);

fn main() {}
