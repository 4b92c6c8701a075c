//! Snippets of the Markdown pages that show tests. A page shows each of these files, or a part of it, as it stands here.

mod guide_map;
mod readme;
