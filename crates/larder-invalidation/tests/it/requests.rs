//! What the sink is asked for.

use larder_core::{ErrorKind, Invalidated, Key, Pattern, Result, Status, Tag, Target};
use larder_invalidation::{Dimension, Invalidate, InvalidateExt as _, WholePart};

use crate::sinks::Recorder;

fn targets<'a>(build: impl FnOnce(Invalidate<'a>) -> Invalidate<'a>, recorder: &'a Recorder) -> Vec<Target> {
    build(Invalidate::new(recorder)).into_targets().expect("the request is valid")
}

fn part(prefix: &str, part: &str) -> Target {
    Target::Part { prefix: prefix.to_owned(), part: part.to_owned() }
}

fn refusal(request: Invalidate<'_>) -> String {
    let error = request.into_targets().expect_err("the request must be refused");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    error.message().to_owned()
}

#[test]
fn keys_are_canonical_below_the_namespace_and_user_text_is_no_separator() {
    let recorder = Recorder::default();
    let keys = targets(|request| request.key("api:ticker:BTC").key(("user", "a:b*")).key(7_u64), &recorder);
    let expected = ["shop:api:ticker:BTC", "shop:user:a%3Ab%2A", "shop:7"].map(Key::from_canonical);
    assert_eq!(keys, [Target::Keys(expected.to_vec())]);
}

#[test]
fn keys_and_tags_of_several_calls_are_asked_for_once() {
    let recorder = Recorder::default();
    let merged =
        targets(|request| request.keys(["a", "b"]).tag("t").key("a").tags(["u", "t"]).region("api"), &recorder);
    assert_eq!(
        merged,
        [
            Target::Keys(["shop:a", "shop:b"].map(Key::from_canonical).to_vec()),
            Target::Tags(vec![Tag::from("t"), Tag::from("u")]),
            Target::Region("shop:api:".into()),
        ]
    );
}

#[test]
fn everything_takes_the_place_of_all_else() {
    let recorder = Recorder::default();
    assert_eq!(targets(|request| request.key("a").everything().symbol("BTC"), &recorder), [Target::Everything]);
}

#[test]
fn a_symbol_is_a_whole_part_in_three_regions_and_a_tag() {
    let recorder = Recorder::default();
    assert_eq!(
        targets(|request| request.symbol("BTCUSDT"), &recorder),
        [
            part("shop:api:", "BTCUSDT"),
            part("shop:db:", "BTCUSDT"),
            part("shop:indicator:", "BTCUSDT"),
            Target::Tags(vec![Tag::from("symbol:BTCUSDT")]),
        ]
    );
}

#[test]
fn an_exchange_and_a_user_session_have_their_regions_and_tags() {
    let recorder = Recorder::default();
    assert_eq!(
        targets(|request| request.exchange("binance").user_session(7), &recorder),
        [
            part("shop:api:", "binance"),
            part("shop:db:", "binance"),
            Target::Tags(vec![Tag::from("exchange:binance"), Tag::from("user:7")]),
            part("shop:session:", "7"),
        ]
    );
}

#[test]
fn a_symbol_with_special_characters_is_only_text_and_its_tag_is_the_one_that_parts_make() {
    let recorder = Recorder::default();
    assert_eq!(
        targets(|request| request.symbol("BTC:*"), &recorder)[2..],
        [part("shop:indicator:", "BTC%3A%2A"), Target::Tags(vec![Tag::new(&("symbol", "BTC:*"))])]
    );
}

#[test]
fn a_value_that_is_too_long_for_a_tag_is_found_by_the_tag_that_parts_make() {
    let recorder = Recorder::default();
    for length in [100, 500, 510, 600] {
        let value = "v".repeat(length);
        let own = targets(|request| request.by(WholePart::new("account", value.as_str())), &recorder);
        assert_eq!(own, [Target::Tags(vec![Tag::new(&("account", value.as_str()))])], "{length}");
    }
}

#[test]
fn a_pattern_stays_within_the_namespace() {
    let recorder = Recorder::default();
    let expected = Target::Pattern(Pattern::from_canonical("shop:api:market:*"));
    assert_eq!(targets(|request| request.pattern("api:market:*"), &recorder), [expected]);
}

#[test]
fn a_pattern_for_every_key_is_refused_and_the_way_to_ask_for_it_is_named() {
    let recorder = Recorder::default();
    for glob in ["", "*", "**", "?*", "???"] {
        let message = refusal(recorder.invalidation().pattern(glob));
        assert!(message.contains("`everything`"), "{message}");
    }
}

#[test]
fn empty_names_are_refused() {
    let recorder = Recorder::default();
    assert!(refusal(recorder.invalidation().symbol("")).starts_with("`symbol` is empty"));
    assert!(refusal(recorder.invalidation().user_session("")).starts_with("`user` is empty"));
    assert!(refusal(recorder.invalidation().region("")).starts_with("`region` is empty"));
    assert!(refusal(recorder.invalidation().region(":")).starts_with("`region` is empty"));
    assert!(refusal(recorder.invalidation().tag("")).starts_with("`tag` is empty"));
    assert!(refusal(recorder.invalidation()).starts_with("nothing was named"));
}

#[tokio::test]
async fn a_wrong_argument_keeps_the_others_from_being_carried_out() {
    let recorder = Recorder::default();
    let error = recorder.invalidation().key("a").pattern("*").tag("t").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(recorder.seen(), []);
}

#[tokio::test]
async fn an_empty_list_of_keys_is_fine_and_asks_for_nothing() {
    let recorder = Recorder::default();
    assert_eq!(recorder.invalidation().keys([""; 0]).await.unwrap(), Invalidated::done(0, 0));
    assert_eq!(recorder.seen(), []);
}

#[tokio::test]
async fn results_are_added_up_and_one_deferred_target_defers_the_whole() {
    let mut recorder = Recorder::default();
    assert_eq!(recorder.invalidation().symbol("BTC").await.unwrap(), Invalidated::done(4, 8));
    recorder.deferring = Some(|target| matches!(target, Target::Region(_)));
    let sum = recorder.invalidation().key("a").region("api").tag("t").await.unwrap();
    assert_eq!((sum.near, sum.remote, sum.status), (3, 6, Status::Deferred));
}

#[tokio::test]
async fn a_failing_target_is_named_and_the_others_are_carried_out() {
    let recorder = Recorder::failing_for(|target| matches!(target, Target::Region(_)));
    let error = recorder.invalidation().key("a").region("api").region("db").tag("t").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(
        error.to_string(),
        "invalidate failed (timeout): region shop:api: (2 of 4 targets failed, the others were carried out): \
         unlink failed (timeout): no answer within 50 ms"
    );
    assert_eq!(recorder.seen().len(), 4);
}

#[tokio::test]
async fn progress_is_told_of_every_target_in_order() {
    let recorder = Recorder::failing_for(|target| matches!(target, Target::Tags(_)));
    let mut steps = Vec::new();
    let request = recorder.invalidation().key("a").tag("t").region("api");
    let outcome =
        request.on_progress(|step| steps.push((step.done, step.total, step.result.is_some_and(Result::is_ok)))).await;
    assert!(outcome.is_err());
    assert_eq!(steps, [(1, 3, true), (2, 3, false), (3, 3, true)]);
}

#[tokio::test]
async fn a_dry_run_that_fails_names_the_target_and_changes_nothing() {
    let recorder = Recorder::failing_for(|target| matches!(target, Target::Region(_)));
    let error = recorder.invalidation().key("a").region("api").dry_run().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "preview failed (unavailable): region shop:api:: scan failed (unavailable): connection refused"
    );
    assert_eq!(recorder.seen(), []);
}

#[test]
fn a_dimension_of_the_applications_own_works_like_the_built_in_ones() {
    struct Accounts<'a>(&'a [u64]);
    impl Dimension for Accounts<'_> {
        fn targets(&self, namespace_prefix: &str) -> Result<Vec<Target>> {
            let keys = self.0.iter().map(|id| Key::with_prefix(namespace_prefix, &("account", *id)));
            Ok(vec![Target::Keys(keys.collect())])
        }
    }
    let recorder = Recorder::default();
    let own = targets(|request| request.by(Accounts(&[1, 2])), &recorder);
    assert_eq!(own, [Target::Keys(["shop:account:1", "shop:account:2"].map(Key::from_canonical).to_vec())]);
    let whole_part = targets(|request| request.by(WholePart::new("desk", "fx").in_regions(["db"])), &recorder);
    assert_eq!(whole_part, [part("shop:db:", "fx"), Target::Tags(vec![Tag::from("desk:fx")])]);
}
