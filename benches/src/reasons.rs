//! Why a budget is missed, where it is.

use crate::row::Row;

/// What is known about rows whose names begin so.
const REASONS: [(&str, &str); 6] = [
    (
        "near hit, #[cached]",
        "what stands below of a hit by key, and the future of the function itself, which is as large as its slow path",
    ),
    (
        "near hit",
        "what Larder does beside the look-up costs about as much as the look-up itself, which is quick as long as the \
         map's own entries stay in the processor's cache. By profile, about half of the difference is rendering the key \
         with its escape check and taking value and deadlines out of the entry, which is copied twice on the way; a \
         quarter is the look-up, since an entry with its deadlines, tags and weight is three times as large as the bare \
         one and fills more cache lines; the rest is the coarse clock, the counter and the check of the type. An \
         application that renders its key before it asks the bare map pays for a part of this too: see the row beside \
         `format!`",
    ),
    (
        "remote hit",
        "client and server share the machine's cores, so processor time is throughput. The rows of the backend alone \
         show that more than half of it is spent below the facade, and that the number of sockets matters little: each \
         read is a batch of one, with its vectors and boxed futures, a deadline of its own in the runtime's timer, and a \
         place among those in flight. The rest is the fence, a second deadline, the breaker, header, checksum and the \
         check of the payload's structure",
    ),
    (
        "get_many",
        "the backend alone keeps up with MGET; what is added is the work for each key above it, some 2 us: a ticket of \
         the fence, the fallback's bookkeeping, a deadline, header, checksum, the check of the payload's structure and \
         the value. Beside bare MGET decoding counts too",
    ),
    (
        "fallback, breaker closed",
        "a decorator of the backend is one more boxed future, which holds the call, and its answers are one more vector; the \
         breaker itself is five atomics and a look at the clock. The bound on calls under way and the memory of what a dropped \
         call leaves undone are in the figure too",
    ),
    ("allocations", "a near hit must not allocate: this is a fault"),
];

pub(crate) fn of(row: &Row) -> &'static str {
    REASONS.iter().find(|(name, _)| row.name.starts_with(name)).map_or("not looked into yet", |(_, reason)| reason)
}
