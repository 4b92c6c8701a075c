//! The builder, and how it is carried out.

use std::{borrow::Cow, collections::HashSet, fmt, future::IntoFuture};

use futures_util::future::BoxFuture;
use larder_core::{
    Error, ErrorKind, Invalidated, InvalidationSink, Key, KeyPart, Pattern, Result, Scanned, Tag, Target, ToKey,
};

use crate::{Dimension, Preview, PreviewedTarget, WholePart};

const OPERATION: &str = "invalidate";

/// How far an invalidation has come.
#[derive(Debug)]
#[non_exhaustive]
pub struct Progress<'p> {
    /// Targets handled, this one included if it has a result.
    pub done: usize,
    /// Targets in all.
    pub total: usize,
    /// The target that is being handled.
    pub target: &'p Target,
    /// Pages, keys looked at and keys removed so far, where the target needs a scan.
    pub scanned: Scanned,
    /// What the target came to; `None` while its scan goes on.
    pub result: Option<&'p Result<Invalidated>>,
}

type Callback<'a> = Box<dyn FnMut(Progress<'_>) + Send + 'a>;

/// What is to be invalidated; awaiting it carries it out.
///
/// Keys and tags of several calls are merged, each target is asked for once, and [`everything`](Self::everything) takes
/// the place of all others. Targets are carried out one after the other, in the order in which they were named.
///
/// When the future is dropped, the targets that were handled stay handled and the one under way may be half done (a scan
/// stops between two pages); asking again is always safe. Several invalidations may run at the same time.
///
/// # Errors
/// Awaiting it gives [`InvalidArgument`](ErrorKind::InvalidArgument) if nothing was named or an argument is wrong, and
/// then nothing has been invalidated. Otherwise every target is tried; the first error is returned after the last of
/// them and says which target failed. That the remote tier is away is no error but
/// [`Deferred`](larder_core::Status::Deferred).
#[must_use = "nothing is invalidated until this is awaited"]
pub struct Invalidate<'a> {
    sink: &'a dyn InvalidationSink,
    targets: Vec<Target>,
    named: bool,
    error: Option<Error>,
    progress: Option<Callback<'a>>,
}

impl<'a> Invalidate<'a> {
    /// An invalidation of nothing so far.
    pub fn new(sink: &'a dyn InvalidationSink) -> Self {
        Self { sink, targets: Vec::new(), named: false, error: None, progress: None }
    }

    /// One key, as a path below the namespace (`"api:ticker:BTC"`) or a tuple of parts.
    pub fn key(self, key: impl ToKey) -> Self {
        let key = Key::with_prefix(self.sink.namespace_prefix(), &key);
        self.with(Ok(vec![Target::Keys(vec![key])]))
    }

    /// Several keys; none at all is fine.
    pub fn keys<K: ToKey>(self, keys: impl IntoIterator<Item = K>) -> Self {
        let prefix = self.sink.namespace_prefix();
        let keys = keys.into_iter().map(|key| Key::with_prefix(prefix, &key)).collect();
        self.with(Ok(vec![Target::Keys(keys)]))
    }

    /// Every entry that carries a tag. For a tag with text from users build it from parts:
    /// `Tag::new(&("user", name))`.
    pub fn tag(self, tag: impl Into<Tag>) -> Self {
        self.tags([tag])
    }

    /// Every entry that carries one of these tags; none at all is fine.
    pub fn tags<T: Into<Tag>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        let tags: Vec<Tag> = tags.into_iter().map(Into::into).collect();
        let empty = tags.iter().any(|tag| tag.as_str().is_empty());
        let targets = if empty { Err(refused("`tag` is empty; name the tag")) } else { Ok(vec![Target::Tags(tags)]) };
        self.with(targets)
    }

    /// Every key below the namespace that matches a glob by Redis's rules (`*`, `?`, `[a-z]`, `\`). Text from users goes
    /// through [`escape_glob`](larder_core::escape_glob) first. One that matches every key is refused.
    pub fn pattern(self, glob: &str) -> Self {
        let targets = namespaced_pattern(self.sink.namespace_prefix(), glob);
        self.with(targets.map(|pattern| vec![Target::Pattern(pattern)]))
    }

    /// Every entry that was written under a region, by its name. Keys that only begin so are found by
    /// [`pattern`](Self::pattern).
    pub fn region(self, region: &str) -> Self {
        let prefix = region_prefix(self.sink.namespace_prefix(), region);
        self.with(prefix.map(|prefix| vec![Target::Region(prefix)]))
    }

    /// The whole namespace.
    pub fn everything(self) -> Self {
        self.with(Ok(vec![Target::Everything]))
    }

    /// A trading symbol, see [`WholePart::symbol`].
    pub fn symbol(self, symbol: &str) -> Self {
        self.by(WholePart::symbol(symbol))
    }

    /// An exchange, see [`WholePart::exchange`].
    pub fn exchange(self, exchange: &str) -> Self {
        self.by(WholePart::exchange(exchange))
    }

    /// A user's session, see [`WholePart::user_session`].
    pub fn user_session(self, user: impl KeyPart) -> Self {
        self.by(WholePart::user_session(user))
    }

    /// A dimension of the application's own.
    pub fn by(self, dimension: impl Dimension) -> Self {
        let targets = dimension.targets(self.sink.namespace_prefix());
        self.with(targets)
    }

    /// Is called after each page of a scan, and after each target. It runs within the invalidation: it must be quick.
    pub fn on_progress(mut self, callback: impl FnMut(Progress<'_>) + Send + 'a) -> Self {
        self.progress = Some(Box::new(callback));
        self
    }

    /// The targets as they would be handed to the sink.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) as when it is awaited.
    pub fn into_targets(self) -> Result<Vec<Target>> {
        Ok(self.checked()?.targets)
    }

    /// Counts the remote keys that each target would touch, and changes nothing. A scan for each pattern, part and
    /// region: O(size of the store). Dropping the future ends it.
    ///
    /// # Errors
    /// Wrong arguments as when it is awaited, and the first error of the sink.
    pub async fn dry_run(self) -> Result<Preview> {
        let Self { sink, targets, .. } = self.checked()?;
        let mut preview = Vec::with_capacity(targets.len());
        for target in targets {
            let keys = sink.preview(&target).await.map_err(|error| naming(&error, "preview", &target, ""))?;
            preview.push(PreviewedTarget { target, keys });
        }
        Ok(Preview { targets: preview })
    }

    fn with(mut self, targets: Result<Vec<Target>>) -> Self {
        self.named = true;
        match targets {
            Ok(targets) => targets.into_iter().for_each(|target| merge(&mut self.targets, target)),
            // The first mistake is the one to mend first.
            Err(error) => self.error = self.error.or(Some(error)),
        }
        self
    }

    fn checked(mut self) -> Result<Self> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if !self.named {
            return Err(refused("nothing was named; call `key`, `tag`, `pattern`, `region` or `everything` first"));
        }
        tidy(&mut self.targets);
        Ok(self)
    }

    async fn run(self) -> Result<Invalidated> {
        let Self { sink, targets, mut progress, .. } = self.checked()?;
        let total = targets.len();
        let mut sum = Invalidated::done(0, 0);
        let mut failed: Option<(Target, Error)> = None;
        let mut failures = 0_usize;
        for (index, target) in targets.into_iter().enumerate() {
            let mut scanned = Scanned::default();
            let result = match &mut progress {
                None => sink.invalidate(target.clone()).await,
                Some(tell) => {
                    let mut watch = |page| {
                        scanned = page;
                        tell(Progress { done: index, total, target: &target, scanned, result: None });
                    };
                    sink.invalidate_watched(target.clone(), &mut watch).await
                }
            };
            if let Some(tell) = &mut progress {
                tell(Progress { done: index + 1, total, target: &target, scanned, result: Some(&result) });
            }
            match result {
                Ok(invalidated) => sum = sum.and(invalidated),
                Err(error) => {
                    failures += 1;
                    failed.get_or_insert((target, error));
                }
            }
        }
        match failed {
            None => Ok(sum),
            Some((target, error)) => {
                let count = format!(" ({failures} of {total} targets failed, the others were carried out)");
                Err(naming(&error, OPERATION, &target, if total > 1 { &count } else { "" }))
            }
        }
    }
}

impl<'a> IntoFuture for Invalidate<'a> {
    type Output = Result<Invalidated>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Invalidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidate").field("targets", &self.targets).field("error", &self.error).finish_non_exhaustive()
    }
}

/// Starts an [`Invalidate`] from any sink.
pub trait InvalidateExt: InvalidationSink {
    /// An invalidation of nothing so far.
    fn invalidation(&self) -> Invalidate<'_>;
}

impl<S: InvalidationSink> InvalidateExt for S {
    fn invalidation(&self) -> Invalidate<'_> {
        Invalidate::new(self)
    }
}

/// The canonical prefix of a region: the namespace's, the name as a path, a `:`.
pub(crate) fn region_prefix(namespace_prefix: &str, region: &str) -> Result<String> {
    let name = region.strip_suffix(':').unwrap_or(region);
    if name.is_empty() {
        return Err(refused("`region` is empty; name the region, or call `everything` for the whole namespace"));
    }
    Ok(format!("{}:", Key::with_prefix(namespace_prefix, name).as_str()))
}

fn namespaced_pattern(namespace_prefix: &str, glob: &str) -> Result<Pattern> {
    if glob.bytes().all(|byte| matches!(byte, b'*' | b'?')) {
        let message = format!(
            "`pattern` is {glob:?}, which names no key in particular; name a prefix, or call `everything` for the whole \
             namespace"
        );
        return Err(refused(message));
    }
    Ok(Pattern::new(glob)?.within(namespace_prefix))
}

/// Adds a target to those that are there, so that the sink is asked for each kind of thing once.
fn merge(targets: &mut Vec<Target>, mut target: Target) {
    for known in targets.iter_mut() {
        match (known, &mut target) {
            (Target::Everything, _) => return,
            (Target::Keys(keys), Target::Keys(more)) => return keys.append(more),
            (Target::Tags(tags), Target::Tags(more)) => return tags.append(more),
            (known, other) if known == other => return,
            _ => {}
        }
    }
    if target == Target::Everything {
        targets.clear();
    }
    targets.push(target);
}

/// Names keys and tags once each, in the order of their first mention, and drops what names nothing.
fn tidy(targets: &mut Vec<Target>) {
    targets.retain_mut(|target| match target {
        Target::Keys(keys) => {
            let mut seen = HashSet::with_capacity(keys.len());
            keys.retain(|key| seen.insert(key.clone()));
            !keys.is_empty()
        }
        Target::Tags(tags) => {
            let mut seen = HashSet::with_capacity(tags.len());
            tags.retain(|tag| seen.insert(tag.clone()));
            !tags.is_empty()
        }
        _ => true,
    });
}

fn refused(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidArgument, OPERATION, message)
}

/// The error of a target: its kind stays, the message says which target.
fn naming(error: &Error, operation: &'static str, target: &Target, others: &str) -> Error {
    Error::new(error.kind(), operation, format!("{target}{others}")).with_source(error.clone())
}
