//! Why a budget is missed, where it is.

use crate::row::Row;

/// What is known about rows whose names begin so.
const REASONS: [(&str, &str); 9] = [
    (
        "near hit",
        "the bare map is asked with a key that was rendered beforehand, and takes about 210 instructions. Larder takes 420 by \
         `u64`, 460 by `&str` and 550 by a pair: for the larger half of what is added it renders and hashes the key, with its escape \
         check, and for the rest it looks at the clock, the deadlines and the type, and counts. Where all lies in the processor's first \
         cache, that is 19, 20 and 27 ns beside 18 of the bare map's (on a Zen 4), and hardly less can be had: the look-up itself is no \
         dearer than the bare map's. Where slots and values have to be waited for it is more, for a `&str` up to twice as \
         much. With `#[cached]` the future of the function comes on top. An application that renders its key before it asks the \
         bare map pays for more than all of that: see the row beside `format!`",
    ),
    (
        "remote hit",
        "client and server share the machine's cores, so processor time is throughput. Callers that read at about the same time \
         share one call, so that what is spent for each call (the breaker, the timer, the way through the backend) hardly counts; \
         what is left for each caller is, by profile, its wake-up, the allocator (future, key, flight, answer, entry), the fence, \
         header, checksum and the check of the payload's structure. A bb8 pool of 50 reaches 0.35 to 0.5 of the bare \
         connection here, so that three times the pool is more than the bare connection itself does",
    ),
    (
        "flight, 10000 callers",
        "the flight itself keeps up: see the row of larder-flight. What is added is a look into the near tier for each caller and \
         a key of its own; those that come before the first one leads also write their request, half a kilobyte",
    ),
    (
        "get_many",
        "the backend alone keeps up with MGET; what is added is the work for each key above it, about a microsecond: rendering \
         the key, header, checksum, the check of the payload's structure and the value. Beside bare MGET decoding counts too",
    ),
    (
        "fallback, breaker closed",
        "a decorator of the backend is one more boxed future, which holds the call, and its answers are one more vector; the \
         breaker itself is five atomics and a look at the clock. The bound on calls under way and the memory of what a dropped \
         call leaves undone are in the figure too",
    ),
    (
        "invalidation until",
        "Larder's side is more than a message: a transaction that removes the key comes before it, and where it arrives, the \
         link's task hands it to the cache's, which drops the entry. Each is a wake-up more, and where the machine's cores are \
         busy with something else a wake-up is what takes long",
    ),
    (
        "invalidation of one of",
        "the commands are the same and none of them lists anything; a server with millions of keys has its markers less often \
         in the processor's cache",
    ),
    (
        "pattern over",
        "the server does one thing at a time: listing and removing 32 keys keeps it from others for about 0.06 ms each, and \
         a question that arrives meanwhile waits. The run, the server and who asks also share the machine's cores. Shorter \
         pages would shorten the wait, and lengthen the run by two round trips for each",
    ),
    ("allocations", "a near hit must not allocate: this is a fault"),
];

pub(crate) fn of(row: &Row) -> &'static str {
    REASONS.iter().find(|(name, _)| row.name.starts_with(name)).map_or("not looked into yet", |(_, reason)| reason)
}
