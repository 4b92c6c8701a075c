//! `#[larder::test]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{FnArg, ItemFn, Result, Type};

use crate::{errors::with_item, facade};

pub(crate) fn expand(options: &TokenStream, item: &TokenStream) -> TokenStream {
    try_expand(options, item.clone()).unwrap_or_else(|error| with_item(item, &error))
}

fn try_expand(options: &TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !options.is_empty() {
        return Err(syn::Error::new_spanned(options, "`#[larder::test]` takes no options"));
    }
    let function: ItemFn = syn::parse2(item)?;
    if function.sig.asyncness.is_none() {
        return Err(syn::Error::new_spanned(function.sig.fn_token, "`#[larder::test]` needs an `async fn`"));
    }
    let larder = facade::path(None);
    let arguments = function.sig.inputs.iter().map(argument).collect::<Result<Vec<_>>>()?;
    let ItemFn { attrs, vis, sig, block, .. } = &function;
    let (name, output) = (&sig.ident, &sig.output);
    let bindings = sig.inputs.iter();
    Ok(quote! {
        #(#attrs)*
        #[::core::prelude::v1::test]
        #vis fn #name() #output {
            async fn body(#(#bindings),*) #output #block
            #larder::__private::run_test(|__larder_cache, __larder_clock| body(#(#arguments),*))
        }
    })
}

fn argument(argument: &FnArg) -> Result<TokenStream> {
    let message = "a test takes a `Cache`, a `ManualClock`, or both";
    let FnArg::Typed(typed) = argument else { return Err(syn::Error::new_spanned(argument, message)) };
    let name = match typed.ty.as_ref() {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    };
    match name.as_deref() {
        Some("Cache") => Ok(quote!(__larder_cache.clone())),
        Some("ManualClock") => Ok(quote!(__larder_clock.clone())),
        _ => Err(syn::Error::new_spanned(&typed.ty, message)),
    }
}
