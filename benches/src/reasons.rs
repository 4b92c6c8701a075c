//! Why a budget is missed, where it is.

use crate::row::Row;

/// What is known about rows whose names begin so.
const REASONS: [(&str, &str); 5] = [
    (
        "near hit, #[cached]",
        "beside what a hit by key costs, the look for a scoped cache, the function's number and the future of the \
         function itself, which is as large as its slow path",
    ),
    (
        "near hit",
        "the bare map costs some 60 ns here, as its entries stay in the processor's cache. What Larder does beside the \
         look-up costs 60 to 80 ns whatever the map costs: rendering the key with its escape check, one read of the \
         coarse clock through the timer's table of functions, one counter, the check of the type, and entries of three \
         times the size (four points in time, tags, weight), which fill more cache lines. An application that renders \
         its key before it asks the bare map pays for the first of these too: see the row beside `format!`",
    ),
    (
        "remote hit",
        "client and server share the machine's cores, so processor time is throughput. A read of Larder's goes through \
         the fence, a deadline for the call, the fallback with its breaker, and a deadline for the command, each a task \
         of its own size or a timer, before it reaches the socket that a raw connection writes to at once; it uses as \
         many sockets as there are cores, so fewer commands go out in one system call; then header, checksum and the \
         check of the payload's structure. The row of the backend alone says which part of it lies below the facade",
    ),
    (
        "get_many",
        "the backend alone keeps up with MGET; what is added is the work for each key above it: a ticket of the fence, \
         the fallback's bookkeeping, a deadline, header, checksum, the check of the payload's structure, and the value",
    ),
    ("allocations", "a near hit must not allocate: this is a fault"),
];

pub(crate) fn of(row: &Row) -> &'static str {
    REASONS.iter().find(|(name, _)| row.name.starts_with(name)).map_or("not looked into yet", |(_, reason)| reason)
}
