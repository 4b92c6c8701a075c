//! `larder invalidate`.

use std::sync::Mutex;

use anyhow::Result;
use larder::{
    Cache, Status,
    invalidation::{Dimension, Invalidate},
};
use larder_core::{KeyBuf, Pattern, Tag, Target};
use serde_json::{Value, json};

use crate::{
    options::{Common, InvalidateOptions},
    report::{Report, Usage, table},
    session::{Names, Session},
};

const NOT_TOLD: &str = "the server has removed them, but the message to the running processes could not be sent: they may \
                        serve what they hold in memory until it ends; run the command again";
const DEFERRED: &str = "not all was removed: the server stopped answering, or this user may not publish to the running \
                        processes; see to that and run the command again";

/// Targets that are canonical already.
#[derive(Debug)]
pub(super) struct Targets(pub(super) Vec<Target>);

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
    // Mistakes in the arguments are told before the server is asked for anything.
    let names = Names::of(&common.namespace).await?;
    let canonical = if options.canonical { canonical_targets(&names, options)? } else { Vec::new() };
    check_not_empty(options)?;
    check_patterns(options)?;

    let session = Session::open(common).await?;
    let cache = session.cache().await?;
    let invalidate = named(cache.invalidate(), &names, options, canonical);
    if options.dry_run {
        return preview(&session, invalidate).await;
    }
    let done = carry_out(&session, &cache, invalidate).await?;
    Ok(report(done))
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

/// A pattern that matches everything, or is none, is refused as the cache would refuse it.
fn check_patterns(options: &InvalidateOptions) -> Result<()> {
    if !options.canonical {
        for glob in &options.patterns {
            Pattern::new(glob).map_err(|error| Usage(error.message().to_owned()))?;
        }
    }
    Ok(())
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
        prefix.path(region).separator();
        prefix.finish();
        let keys = Targets(vec![Target::Pattern(Pattern::prefix(prefix.as_str()))]);
        invalidate = invalidate.region(region).by(keys);
    }
    if options.everything { invalidate.everything() } else { invalidate }
}

async fn preview(session: &Session, invalidate: Invalidate<'_>) -> Result<Report> {
    let preview = invalidate.dry_run().await.map_err(|error| told(session, &error))?;
    let targets: Vec<(String, Option<u64>)> =
        preview.targets.iter().map(|previewed| (previewed.target.to_string(), previewed.keys)).collect();
    let document = json!({
        "dry_run": true,
        "targets": documents(&targets, "keys"),
        "keys": preview.counted_keys(),
        "exact": preview.is_exact(),
    });
    let rows = rows(&targets, "not counted: which entries carry a tag is kept nowhere");
    let text = format!("{}\nnothing was changed", table(["would be invalidated", "keys"], rows));
    Ok(Report::new(text, document))
}

/// Carries an invalidation out, here and in all running processes.
pub(super) async fn carry_out(session: &Session, cache: &Cache, invalidate: Invalidate<'_>) -> Result<Done> {
    let targets = Mutex::new(Vec::new());
    let invalidated = invalidate.on_progress(|progress| {
        let removed = progress.result.as_ref().ok().map(|invalidated| invalidated.remote);
        targets.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((progress.target.to_string(), removed));
    });
    let invalidated = invalidated.await.map_err(|error| told(session, &error))?;
    let failure = match invalidated.status {
        Status::Done if cache.stats().remote_faults == 0 => None,
        Status::Done => Some(NOT_TOLD.to_owned()),
        _ => Some(DEFERRED.to_owned()),
    };
    let targets = targets.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(Done { removed: invalidated.remote, targets, failure })
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

/// A wrong argument is the person's to mend, everything else the server's.
fn told(session: &Session, error: &larder::Error) -> anyhow::Error {
    if error.kind() == larder::ErrorKind::InvalidArgument {
        return Usage(error.message().to_owned()).into();
    }
    session.failed(error)
}
