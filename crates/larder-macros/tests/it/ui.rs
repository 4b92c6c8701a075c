#[test]
fn every_mistake_gets_a_message_that_says_what_would_be_right() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
