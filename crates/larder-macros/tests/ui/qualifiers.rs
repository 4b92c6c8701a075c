use larder::cached;

#[cached]
unsafe fn f(id: u8) -> u8 {
    id
}

#[cached]
const fn g(id: u8) -> u8 {
    id
}

#[cached]
extern "C" fn h(id: u8) -> u8 {
    id
}

fn main() {}
