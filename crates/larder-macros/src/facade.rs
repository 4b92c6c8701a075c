//! Where the facade is.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::Path;

/// The path to the `larder` crate: as it was given, as the caller's manifest names it, or `::larder`.
pub(crate) fn path(given: Option<&Path>) -> TokenStream {
    if let Some(path) = given {
        return quote!(#path);
    }
    match crate_name("larder") {
        Ok(FoundCrate::Name(name)) => {
            let name = Ident::new(&name, Span::call_site());
            quote!(::#name)
        }
        // Within the facade itself, which names itself `larder`, and where no manifest can be read.
        Ok(FoundCrate::Itself) | Err(_) => quote!(::larder),
    }
}
