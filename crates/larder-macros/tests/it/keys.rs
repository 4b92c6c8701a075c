use larder::{Key, KeyPart, key};

#[derive(KeyPart)]
struct Symbol(String);

#[derive(KeyPart)]
struct Range {
    from: u32,
    to: u32,
    #[key(skip)]
    _note: &'static str,
}

#[derive(KeyPart)]
enum Interval {
    Minute,
    Hours(u8),
    Custom { seconds: u32 },
}

#[derive(KeyPart)]
struct Pair<A, B>(A, B);

#[derive(KeyPart)]
struct Maybe(Option<u8>);

fn text<P: KeyPart>(part: P) -> String {
    Key::new(&(part,)).as_str().to_owned()
}

#[test]
fn a_struct_of_one_field_is_written_as_that_field() {
    assert_eq!(text(Symbol("BTC:USDT".into())), "BTC%3AUSDT");
    assert_eq!(text(Some(Maybe(None))), "%s%n");
    assert_eq!(text(None::<Maybe>), "%n");
}

#[test]
fn fields_are_kept_apart_and_skipped_ones_left_out() {
    assert_eq!(text(Range { from: 1, to: 23, _note: "a" }), text(Range { from: 1, to: 23, _note: "b" }));
    assert_ne!(text(Range { from: 1, to: 23, _note: "" }), text(Range { from: 12, to: 3, _note: "" }));
    assert_ne!(text(Pair("a", "b,c")), text(Pair("a,b", "c")));
}

#[test]
fn variants_of_an_enum_differ() {
    assert_eq!(text(Interval::Minute), "Minute");
    assert_ne!(text(Interval::Hours(1)), text(Interval::Hours(2)));
    assert_ne!(text(Interval::Hours(1)), text(Interval::Custom { seconds: 1 }));
}

#[test]
fn a_template_separates_in_its_text_and_escapes_what_is_put_in() {
    let (id, name) = (7, "a:b");
    assert_eq!(Key::new(&key!("user:{id}:{name}")).as_str(), "user:7:a%3Ab");
    assert_eq!(Key::new(&key!("n:{}:{}", id + 1, name)).as_str(), "n:8:a%3Ab");
    assert_eq!(Key::new(&key!("{{{id}}}")).as_str(), "%7B7%7D");
}
