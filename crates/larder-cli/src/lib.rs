//! `larder` on the command line: look into a cache that lives in Redis, invalidate parts of it, add up what its processes
//! have published, and check that all is well.
//!
//! ```text
//! larder [--redis URL] [--namespace NAMESPACE] [--json] [--deadline TIME] COMMAND
//! ```
//!
//! `larder COMMAND --help` shows each command's options with examples. The URL may also stand in the environment variable
//! `LARDER_REDIS_URL`, where a password is not seen by others on the machine; no output shows it.
//!
//! # Keys
//! A key is written as the application writes it, as a path below the namespace (`user:7`), and escaped in the same way. With
//! `--canonical` it is taken as it stands in Redis, namespace included: that is how `larder keys` lists it, and the only way
//! to name a key with an escaped part (`shop:ticker:BTC%3AUSDT`).
//!
//! `delete` and `invalidate` are told to the running processes too, over the bus of the namespace, so that they drop what
//! they hold in memory. They therefore touch no key outside the namespace.
//!
//! # Exit codes
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | not done: one line on standard error says why. Also if `get` finds no value, if `health` is not well, and if `doctor` finds the server not fit or cannot reach it |
//! | 2 | the arguments are wrong |
//!
//! # JSON
//! With `--json` a command writes one document on one line. Fields may be added in later releases; these stay. Times that
//! are not set, or without end, are `null`.
//!
//! | command | document |
//! |---|---|
//! | `get` | an *entry*, `value`, `encoding` of it (`json`, `text`, `hex` or `null`), `undecodable` (why it is in hexadecimal digits, where it should not be) |
//! | `explain` | an *entry*, `verdict` |
//! | `keys` | `keys` (a list of `key`, `ttl_ms`), `truncated` (whether there are more) |
//! | `ttl` | `keys` (a list of `key`, `found`, `ttl_ms`) |
//! | `delete` | `keys` (how many were named), `deleted` (how many were there), `complete` |
//! | `invalidate` | `dry_run` (`false`), `targets` (a list of `target`, `removed`), `removed`, `complete` |
//! | `invalidate --dry-run` | `dry_run` (`true`), `targets` (a list of `target`, `keys`), `keys`, `exact` (whether all could be counted), `listed` (canonical keys, the first in order), `truncated` (whether there are more) |
//! | `stats` | `namespace`; `processes` with `count`, `unreadable`, `requests`, `hits`, `hit_rate`, `figures` (the fields of `larder::Stats`); `server` with `version`, `mode`, `run_id`, `uptime_seconds`, `keys`, `used_bytes`, `max_bytes` (0 for no limit), `eviction_policy`, `hits`, `misses`, `hit_rate`, `evicted`, `expired`, `clients` |
//! | `health` | `healthy`, `namespace`, `checks` (a list of `check`, `ok`, `ms`, `error`) |
//! | `doctor` | `fit`, `findings` (a list of `check`, `grade`, `found`, `todo`; a grade is `ok`, `advice`, `warning` or `failure`, and the last two mean not fit), `ping_us` (`count`, `p50`, `p99`, `max`), `settings` (lists of the values that servers have, by name), `sample` (a *sample* with `prefixes` and `biggest`); the last three are `null` where the server did not come to tell |
//! | `memory` | a *sample* with `prefixes` (a list of `prefix`, `keys`, `bytes`, `without_ttl`, `estimated_keys`, `estimated_bytes`), `truncated` (whether there are more) |
//! | `bigkeys` | a *sample* with `biggest` (a list of `key`, `kind`, `bytes`, `ttl_ms`) |
//!
//! A *sample* has `keys` (how many were looked at), `refused` (how many more the user may not see), `total` (how many there
//! are), `complete` (`false`: it was broken off after 30 s), `bytes`, `estimated_bytes`, `without_ttl`, `kinds` (a list of
//! `kind`, `keys`, `bytes`), `ttl` (a list of `up_to_ms`, which is `null` for longer ones, and `keys`).
//!
//! An *entry* has `key` (canonical) and `found`, and if it was found:
//!
//! | field | meaning |
//! |---|---|
//! | `kind` | `value`, `absent` (the loader found nothing), `loading`, `held` (a writer updates the source), `counter`, `foreign` (another program's bytes), `other_type` (a list, a hash and so on); `unknown_version`, `unknown_kind` or `corrupt` for an entry that cannot be used |
//! | `state` | `fresh`, `stale` or `dead` for a value and an absence; otherwise the kind |
//! | `codec`, `compression` | how the payload is stored |
//! | `bytes`, `payload_bytes` | stored, header included; of the payload before compression |
//! | `ttl_ms`, `fresh_ms`, `stale_ms` | how long the server keeps it, how long it is fresh, how long it may be served |
//! | `load_cost_us`, `schema` | what the load cost; the fingerprint of region and version |
//! | `tags` | a list of `tag`, `holds` (`false`: invalidated since the entry was loaded) |
//!
//! A MessagePack value is shown as JSON; its byte strings as text of `0x` and hexadecimal digits. postcard does not say what
//! its bytes mean, so they are shown in hexadecimal digits, as raw bytes are.

mod commands;
mod decoded;
mod endpoint;
mod options;
mod program;
mod report;
mod sample;
mod session;
mod span;
mod stored;

pub use program::run;
