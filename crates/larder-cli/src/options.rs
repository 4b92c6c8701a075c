//! What can be said on the command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueHint};

use crate::span::parse_deadline;

const PROGRAM_EXAMPLES: &str = "\
Examples:
  larder --namespace shop stats
  larder --namespace shop get user:7
  LARDER_REDIS_URL=redis://cache.internal:6379/2 larder --namespace shop --json health

Exit codes: 0 done; 1 it could not be done, and standard error says why; 2 the arguments are wrong";

const GET_EXAMPLES: &str = "\
Examples:
  larder -n shop get user:7
  larder -n shop get --canonical 'shop:api:ticker:BTC%2FUSDT'
  larder -n shop get report:2024 --raw > report.bin
  larder -n shop --json get user:7 | jq .value";

const KEYS_EXAMPLES: &str = "\
Examples:
  larder -n shop keys 'user:*'
  larder -n shop keys '*' --limit 50
  larder keys --canonical '*:session:*'
  larder -n shop --json keys 'user:*' | jq -r '.keys[].key'

Keys are listed in canonical form; the other commands take them so with --canonical.";

const TTL_EXAMPLES: &str = "\
Examples:
  larder -n shop ttl user:7 user:8
  larder -n shop --json ttl user:7 | jq '.keys[0].ttl_ms'";

const DELETE_EXAMPLES: &str = "\
Examples:
  larder -n shop delete user:7 user:8
  larder -n shop keys 'user:*' --json | jq -r '.keys[].key' | xargs larder -n shop delete --canonical";

const INVALIDATE_EXAMPLES: &str = "\
Examples:
  larder -n shop invalidate --tag user:7
  larder -n shop invalidate --key user:7 --pattern 'report:*' --dry-run
  larder -n shop invalidate --symbol BTCUSDT
  larder -n shop invalidate --everything --yes";

const STATS_EXAMPLES: &str = "\
Examples:
  larder -n shop stats
  larder -n shop --json stats | jq .processes.hit_rate";

const HEALTH_EXAMPLES: &str = "\
Examples:
  larder -n shop health
  larder -n shop health --ping-only
  larder -n shop --json health || echo 'the cache needs attention'";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  larder doctor
  larder --redis redis://cache.internal:6379 doctor --pings 10000
  larder --redis rediss://cache.internal --tls-ca ca.pem doctor
  larder --redis redis-cluster://node1:6379,node2:6379 doctor
  larder --json doctor | jq '.findings[] | select(.grade != \"ok\")'";

const MEMORY_EXAMPLES: &str = "\
Examples:
  larder memory
  larder memory --depth 1 --sample 100000
  larder --json memory | jq -r '.prefixes[] | [.prefix, .estimated_bytes] | @tsv'

Keys are met by chance in the whole database, whatever their namespace; what is estimated is what was seen, extended to all
keys. On a cluster every primary is looked at.";

const BIGKEYS_EXAMPLES: &str = "\
Examples:
  larder bigkeys
  larder bigkeys --sample 100000 --limit 5
  larder --json bigkeys | jq -r '.biggest[0].key'

Keys are met by chance in the whole database, whatever their namespace: there may be a bigger one that was not met.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  larder -n shop explain user:7
  larder -n shop --json explain user:7 | jq -r .verdict";

/// Looks into a Larder cache in Redis, invalidates, adds up statistics, checks health
#[derive(Debug, Parser)]
#[command(name = "larder", bin_name = "larder", version, after_help = PROGRAM_EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What holds for every command.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The server
    #[arg(
        long,
        help = "The server: redis://[user:password@]host[:port][/database], rediss:// for TLS or unix:///path; \
                redis-sentinel://host,host/database#service; redis-cluster://host,host",
        global = true,
        value_name = "URL",
        env = "LARDER_REDIS_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379"
    )]
    pub(crate) redis: String,

    /// A file with the certificate authorities (PEM) that are trusted instead of the system's; asks for TLS
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) tls_ca: Option<PathBuf>,

    /// A file with the client's certificate chain (PEM), if the server asks for one; needs --tls-key
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) tls_cert: Option<PathBuf>,

    /// A file with the private key (PEM) of --tls-cert
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) tls_key: Option<PathBuf>,

    /// The namespace, as the application configured it
    #[arg(long, short, global = true, value_name = "NAMESPACE", default_value = "larder")]
    pub(crate) namespace: String,

    /// Prints one JSON document instead of tables
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// How long the server may take to connect, and to answer one command: 500ms, 2s, 1m
    #[arg(long, global = true, value_name = "TIME", default_value = "2s", value_parser = parse_deadline)]
    pub(crate) deadline: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the value under a key, decoded; fails if there is none
    #[command(after_help = GET_EXAMPLES)]
    Get(GetOptions),
    /// Lists the keys that match a glob, with what they have left
    #[command(after_help = KEYS_EXAMPLES)]
    Keys(KeysOptions),
    /// Says how long the server keeps keys
    #[command(after_help = TTL_EXAMPLES)]
    Ttl(KeyList),
    /// Removes keys from the server and from the memory of all running processes
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(KeyList),
    /// Invalidates by key, tag, pattern, region and more, on the server and in all running processes
    #[command(after_help = INVALIDATE_EXAMPLES)]
    Invalidate(InvalidateOptions),
    /// Adds up what the running processes have published, and shows the server's figures
    ///
    /// A process publishes every 10 s; one that has ended is counted for up to 30 s.
    #[command(after_help = STATS_EXAMPLES)]
    Stats,
    /// Connects, then writes, reads, compares and deletes a value of its own; exit code 0 or 1
    #[command(after_help = HEALTH_EXAMPLES)]
    Health(HealthOptions),
    /// Judges whether the server is set up as a cache and what to change; exit code 1 if it is not fit
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorOptions),
    /// Estimates by prefix what fills the server's memory, from keys that are met by chance
    #[command(after_help = MEMORY_EXAMPLES)]
    Memory(MemoryOptions),
    /// Lists the biggest of some keys that are met by chance
    #[command(after_help = BIGKEYS_EXAMPLES)]
    Bigkeys(BigkeysOptions),
    /// Says what stands under a key, and whether a read of it would be a hit
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(OneKey),
}

/// A key.
#[derive(Debug, Args)]
pub(crate) struct OneKey {
    /// The key below the namespace, as a path: user:7
    #[arg(value_name = "KEY")]
    pub(crate) key: String,

    /// The key is in canonical form, namespace included, as `larder keys` lists it
    #[arg(long)]
    pub(crate) canonical: bool,
}

/// Some keys.
#[derive(Debug, Args)]
pub(crate) struct KeyList {
    /// Keys below the namespace, as paths: user:7
    #[arg(value_name = "KEY", required = true)]
    pub(crate) keys: Vec<String>,

    /// The keys are in canonical form, namespace included, as `larder keys` lists them
    #[arg(long)]
    pub(crate) canonical: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GetOptions {
    #[command(flatten)]
    pub(crate) key: OneKey,

    /// Writes nothing but the payload's bytes, decompressed but not decoded
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeysOptions {
    /// A glob by Redis's rules below the namespace: 'user:*', 'report:202?'
    #[arg(value_name = "PATTERN")]
    pub(crate) pattern: String,

    /// How many keys are listed at most
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) limit: u32,

    /// The glob is over whole canonical keys, those outside the namespace included
    #[arg(long)]
    pub(crate) canonical: bool,

    /// Also lists what Larder keeps for itself: markers of tags, published statistics
    #[arg(long)]
    pub(crate) internal: bool,
}

#[derive(Debug, Args)]
#[group(id = "targets", required = true, multiple = true, args = ["keys", "tags", "patterns", "symbols", "exchanges", "users", "regions", "everything"])]
pub(crate) struct InvalidateOptions {
    /// A key below the namespace; may be given more than once, like all that follow
    #[arg(long = "key", value_name = "KEY")]
    pub(crate) keys: Vec<String>,

    /// Every entry that carries the tag
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,

    /// Every key that matches a glob by Redis's rules
    #[arg(long = "pattern", value_name = "PATTERN")]
    pub(crate) patterns: Vec<String>,

    /// A trading symbol: in the regions api, db and indicator, and the tag symbol:SYMBOL
    #[arg(long = "symbol", value_name = "SYMBOL")]
    pub(crate) symbols: Vec<String>,

    /// An exchange: in the regions api and db, and the tag exchange:EXCHANGE
    #[arg(long = "exchange", value_name = "EXCHANGE")]
    pub(crate) exchanges: Vec<String>,

    /// A user's session: in the region session, and the tag user:USER
    #[arg(long = "user", value_name = "USER")]
    pub(crate) users: Vec<String>,

    /// Every entry of a region
    #[arg(long = "region", value_name = "REGION")]
    pub(crate) regions: Vec<String>,

    /// The whole namespace; needs --yes
    #[arg(long)]
    pub(crate) everything: bool,

    /// Confirms --everything
    #[arg(long)]
    pub(crate) yes: bool,

    /// Lists and counts the keys that would go, and changes nothing; which entries carry a tag is kept nowhere
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// How many keys --dry-run lists at most; all are counted
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) limit: u32,

    /// Keys, tags and patterns are in canonical form (keys and patterns with the namespace)
    #[arg(long)]
    pub(crate) canonical: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HealthOptions {
    /// Writes nothing: for a user who may only read
    #[arg(long)]
    pub(crate) ping_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// How many pings are timed, one after the other
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) pings: u32,

    /// How many keys are looked at, met by chance; 0 for none
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) sample: u32,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryOptions {
    /// How many keys are looked at, met by chance
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) sample: u32,

    /// How many parts of a key, separated by `:`, make a prefix
    #[arg(long, value_name = "PARTS", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) depth: u8,

    /// How many prefixes are listed at most, those with the most memory first
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct BigkeysOptions {
    /// How many keys are looked at, met by chance
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) sample: u32,

    /// How many of them are listed
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Options;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
