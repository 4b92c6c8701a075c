//! `larder invalidate`.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use anyhow::Result;
use futures_util::TryStreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder::{
    Cache, Status,
    invalidation::{Dimension, Invalidate},
};
use larder_core::{Backend, Key, KeyBuf, Pattern, SCAN_PAGE, Scan, Tag, Target};
use serde_json::{Value, json};

use crate::{
    options::{Common, InvalidateOptions},
    report::{Report, Usage, printable, table},
    session::{Names, Session},
};

const NOT_TOLD: &str = "the server has removed them, but the message to the running processes could not be sent: they may \
                        serve what they hold in memory until it ends; run the command again";
const DEFERRED: &str = "not all was removed: the server stopped answering, or this user may not publish to the running \
                        processes; see to that and run the command again";

/// Targets that are canonical already.
#[derive(Debug)]
struct Targets(Vec<Target>);

impl Dimension for Targets {
    fn targets(&self, _namespace_prefix: &str) -> larder::Result<Vec<Target>> {
        Ok(self.0.clone())
    }
}

/// What an invalidation came to.
#[derive(Debug)]
pub(super) struct Done {
    /// Keys and markers of tags that were there.
    pub(super) removed: u64,
    /// What became of each target, in their order.
    targets: Vec<(String, Option<u64>)>,
    /// Why it is not complete.
    pub(super) failure: Option<String>,
}

pub(super) async fn run(common: &Common, options: &InvalidateOptions) -> Result<Report> {
    if options.everything && !options.yes && !options.dry_run {
        let message = format!(
            "--everything empties the whole namespace {:?}; confirm it with --yes, or look first with --dry-run",
            common.namespace
        );
        return Err(Usage(message).into());
    }
    let targets = checked(common, options).await?;
    let session = Session::open(common).await?;
    if options.dry_run {
        return preview(&session, targets, options.limit).await;
    }
    let cache = session.cache().await?;
    let done = carry_out(&session, &cache, targets).await?;
    Ok(report(done))
}

/// What is to go. Mistakes in the arguments are told before the server is asked for anything.
async fn checked(common: &Common, options: &InvalidateOptions) -> Result<Vec<Target>> {
    check_not_empty(options)?;
    let names = Names::of(&common.namespace).await?;
    let canonical = if options.canonical { canonical_targets(&names, options)? } else { Vec::new() };
    // The same checks as in a service; this cache knows no server.
    let offline = names.cache().await?;
    let targets = named(offline.invalidate(), &names, options, canonical).into_targets();
    targets.map_err(|error| Usage(error.message().to_owned()).into())
}

/// Keys, patterns and tags as they are written in the store.
fn canonical_targets(names: &Names, options: &InvalidateOptions) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    if !options.keys.is_empty() {
        targets.push(Target::Keys(names.own_keys(&options.keys, true)?));
    }
    for pattern in &options.patterns {
        targets.push(Target::Pattern(names.own_pattern(pattern)?));
    }
    if !options.tags.is_empty() {
        let tags = options.tags.iter().map(|tag| Tag::from_canonical(tag.as_str()));
        targets.push(Target::Tags(tags.collect()));
    }
    Ok(targets)
}

fn check_not_empty(options: &InvalidateOptions) -> Result<()> {
    let given = [
        ("--key", &options.keys),
        ("--tag", &options.tags),
        ("--pattern", &options.patterns),
        ("--symbol", &options.symbols),
        ("--exchange", &options.exchanges),
        ("--user", &options.users),
        ("--region", &options.regions),
    ];
    match given.iter().find(|(_, values)| values.iter().any(String::is_empty)) {
        None => Ok(()),
        Some((option, _)) => Err(Usage(format!("{option} is empty; say what is to go")).into()),
    }
}

fn named<'a>(
    mut invalidate: Invalidate<'a>,
    names: &Names,
    options: &InvalidateOptions,
    canonical: Vec<Target>,
) -> Invalidate<'a> {
    if options.canonical {
        invalidate = invalidate.by(Targets(canonical));
    } else {
        invalidate = invalidate.keys(&options.keys).tags(options.tags.iter().map(String::as_str));
        invalidate = options.patterns.iter().fold(invalidate, |invalidate, glob| invalidate.pattern(glob));
    }
    invalidate = options.symbols.iter().fold(invalidate, |invalidate, symbol| invalidate.symbol(symbol));
    invalidate = options.exchanges.iter().fold(invalidate, |invalidate, exchange| invalidate.exchange(exchange));
    invalidate = options.users.iter().fold(invalidate, |invalidate, user| invalidate.user_session(user.as_str()));
    for region in &options.regions {
        // An operator means the keys that begin so: also those that were not written through the region's handle, and so
        // do not go with its marker.
        let mut prefix = KeyBuf::with_prefix(&names.prefix);
        prefix.path(region.strip_suffix(':').unwrap_or(region)).separator();
        prefix.finish();
        let keys = Targets(vec![Target::Pattern(Pattern::prefix(prefix.as_str()))]);
        invalidate = invalidate.region(region).by(keys);
    }
    if options.everything { invalidate.everything() } else { invalidate }
}

/// What a target would touch.
struct Previewed {
    target: String,
    /// `None` for tags.
    keys: Option<u64>,
}

async fn preview(session: &Session, targets: Vec<Target>, limit: u32) -> Result<Report> {
    let limit = usize::try_from(limit)?;
    let line = Progress::new();
    let (mut previewed, mut listed) = (Vec::with_capacity(targets.len()), BTreeSet::new());
    // A region is asked for by its marker and by its keys: these are the same.
    let prefixes: Vec<Pattern> = targets.iter().filter_map(prefix_of).collect();
    let is_counted = |target: &&Target| !matches!(target, Target::Pattern(pattern) if prefixes.contains(pattern));
    for target in targets.iter().filter(is_counted) {
        let keys = match target {
            Target::Tags(_) => None,
            Target::Keys(keys) => {
                let mut found = 0;
                for (key, answer) in keys.iter().zip(session.redis.ttl_many(keys).await) {
                    if answer.map_err(|error| session.failed(&error))?.is_some() {
                        found += 1;
                        list(&mut listed, key, limit);
                    }
                }
                Some(found)
            }
            wide => Some(scan(session, wide, &line, |key| list(&mut listed, key, limit)).await?),
        };
        previewed.push(Previewed { target: target.to_string(), keys });
    }
    line.end();
    Ok(report_preview(&previewed, listed, limit))
}

/// The pattern of a region's keys.
fn prefix_of(target: &Target) -> Option<Pattern> {
    match target {
        Target::Region(prefix) => Some(Pattern::prefix(prefix)),
        _ => None,
    }
}

/// Keeps the first of them, in order, and one more to know whether there are more.
fn list(listed: &mut BTreeSet<Key>, key: &Key, limit: usize) {
    if listed.len() <= limit || listed.last().is_some_and(|last| key < last) {
        listed.insert(key.clone());
        if listed.len() > limit + 1 {
            listed.pop_last();
        }
    }
}

/// How many keys of the server match, each handed on. One that is listed twice counts twice.
async fn scan(session: &Session, target: &Target, line: &Progress, mut each: impl FnMut(&Key)) -> Result<u64> {
    let Some(pattern) = target.scan_pattern(&session.names.prefix) else { return Ok(0) };
    let mut pages = session.redis.scan(&pattern, SCAN_PAGE);
    let (mut found, mut looked_at) = (0, 0);
    while let Some(page) = pages.try_next().await.map_err(|error| session.failed(&error))? {
        looked_at += page.len() as u64;
        for key in page.iter().filter(|key| target.matches(key.as_str()) && !session.names.is_internal(key)) {
            found += 1;
            each(key);
        }
        line.tell(target, looked_at, found, "would go");
    }
    Ok(found)
}

fn report_preview(previewed: &[Previewed], mut listed: BTreeSet<Key>, limit: usize) -> Report {
    let truncated = listed.len() > limit;
    if truncated {
        listed.pop_last();
    }
    let targets: Vec<(String, Option<u64>)> =
        previewed.iter().map(|previewed| (previewed.target.clone(), previewed.keys)).collect();
    let document = json!({
        "dry_run": true,
        "targets": documents(&targets, "keys"),
        "keys": previewed.iter().filter_map(|previewed| previewed.keys).sum::<u64>(),
        "exact": previewed.iter().all(|previewed| previewed.keys.is_some()),
        "listed": listed.iter().map(Key::as_str).collect::<Vec<_>>(),
        "truncated": truncated,
    });
    let rows = rows(&targets, "not counted: which entries carry a tag is kept nowhere");
    let mut text = table(["would be invalidated", "keys"], rows);
    if !listed.is_empty() {
        let keys = table(["key"], listed.iter().map(|key| [key.to_string()]));
        let more = if truncated { "\nand more: --limit sets how many are listed" } else { "" };
        text = format!("{text}\n{keys}{more}");
    }
    Report::new(format!("{text}\nnothing was changed"), document)
}

/// Carries an invalidation out, here and in all running processes.
pub(super) async fn carry_out(session: &Session, cache: &Cache, targets: Vec<Target>) -> Result<Done> {
    let handled = Mutex::new(Vec::new());
    let line = Progress::new();
    let invalidate = cache.invalidate().by(Targets(targets)).on_progress(|progress| match progress.result {
        None => line.tell(progress.target, progress.scanned.looked_at, progress.scanned.removed, "removed"),
        Some(result) => {
            let removed = result.as_ref().ok().map(|invalidated| invalidated.remote);
            handled.lock().unwrap_or_else(PoisonError::into_inner).push((progress.target.to_string(), removed));
        }
    });
    let invalidated = invalidate.await.map_err(|error| session.failed(&error));
    line.end();
    let invalidated = invalidated?;
    let failure = match invalidated.status {
        Status::Done if cache.stats().remote_faults == 0 => None,
        Status::Done => Some(NOT_TOLD.to_owned()),
        _ => Some(DEFERRED.to_owned()),
    };
    let targets = handled.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Done { removed: invalidated.remote, targets, failure })
}

/// A line on standard error, if that is a terminal, that shows how far a long run has come.
struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{msg}").expect("the template is well-formed");
        // It draws at most twice a second: a run that takes less needs no line.
        Self(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(2)).with_style(style))
    }

    fn tell(&self, target: &Target, looked_at: u64, matched: u64, what: &str) {
        self.0.set_message(printable(&format!("{target}: {looked_at} keys looked at, {matched} {what}")));
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

fn report(done: Done) -> Report {
    let document = json!({
        "dry_run": false,
        "targets": documents(&done.targets, "removed"),
        "removed": done.removed,
        "complete": done.failure.is_none(),
    });
    let rows = rows(&done.targets, "failed");
    let text = table(["invalidated", "keys removed"], rows);
    Report::new(text, document).failing(done.failure)
}

fn documents(targets: &[(String, Option<u64>)], count: &str) -> Vec<Value> {
    targets.iter().map(|(target, keys)| json!({"target": target, count: keys})).collect()
}

fn rows(targets: &[(String, Option<u64>)], unknown: &str) -> Vec<[String; 2]> {
    let count = |keys: &Option<u64>| keys.map_or_else(|| unknown.to_owned(), |keys| keys.to_string());
    targets.iter().map(|(target, keys)| [target.clone(), count(keys)]).collect()
}
