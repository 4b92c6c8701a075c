//! What stands beside a cached function: its figures, its keys, and the ways past the cache.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use super::generate::{Generator, plain_inputs};

impl Generator<'_> {
    /// A batch's companion, with these members beside the figures.
    pub(super) fn batch_companion(&self, members: &TokenStream) -> TokenStream {
        if self.signature.has_self && self.options.companion.is_none() {
            return TokenStream::new();
        }
        let reports = self.reports(|member| self.member(member));
        let members = quote!(#reports #members);
        if self.signature.has_self { members } else { self.companion_type(&members) }
    }

    /// The name of a member of the companion.
    pub(super) fn member(&self, member: &str) -> Ident {
        match &self.options.companion {
            Some(name) if self.signature.has_self => format_ident!("{name}_{member}"),
            _ => format_ident!("{member}"),
        }
    }

    pub(super) fn companion(&self) -> TokenStream {
        if self.signature.has_self { self.method_companion() } else { self.function_companion() }
    }

    /// No type can be defined in an `impl`, so a method's companion is functions that begin with its name.
    fn method_companion(&self) -> TokenStream {
        let Some(name) = &self.options.companion else { return TokenStream::new() };
        let (reports, calls) = (
            self.reports(|member| format_ident!("{name}_{member}")),
            self.calls(|member| format_ident!("{name}_{member}")),
        );
        quote!(#reports #calls)
    }

    fn function_companion(&self) -> TokenStream {
        let (reports, calls) =
            (self.reports(|member| format_ident!("{member}")), self.calls(|member| format_ident!("{member}")));
        self.companion_type(&quote!(#reports #calls))
    }

    fn companion_type(&self, members: &TokenStream) -> TokenStream {
        let (vis, cfgs) = (&self.function.vis, self.cfgs());
        let name = self.options.companion.as_ref().unwrap_or(&self.function.sig.ident);
        let doc = format!("What the cache knows of [`{0}`](fn@{0}).", self.function.sig.ident);
        quote! {
            #(#cfgs)*
            #[doc = #doc]
            #[allow(non_camel_case_types, dead_code, reason = "a companion: named as the function, unused at will")]
            #[derive(Debug)]
            #vis enum #name {}

            #(#cfgs)*
            impl #name {
                #members
            }
        }
    }

    /// What concerns the function as a whole.
    fn reports(&self, named: impl Fn(&str) -> Ident) -> TokenStream {
        let (larder, vis, cfgs) = (&self.larder, &self.function.vis, self.cfgs());
        let (info, clear) = (named("cache_info"), named("cache_clear"));
        let (site, cache) = (self.sibling(&self.site), self.cache());
        quote! {
            #(#cfgs)*
            /// The function's figures.
            #[must_use]
            #[allow(dead_code, reason = "a companion: unused at will")]
            #vis fn #info() -> #larder::CacheInfo {
                #site().info(#cache)
            }

            #(#cfgs)*
            /// Drops what the function has stored, in both tiers.
            ///
            /// # Errors
            /// Those of the remote tier.
            #[allow(dead_code, reason = "a companion: unused at will")]
            #vis async fn #clear() -> #larder::Result<#larder::Invalidated> {
                #site().clear(#cache).await
            }
        }
    }

    /// What takes the function's arguments.
    fn calls(&self, named: impl Fn(&str) -> Ident) -> TokenStream {
        let (larder, private, vis, cfgs) = (&self.larder, &self.private, &self.function.vis, self.cfgs());
        let (key, outcome, uncached) = (named("cache_key"), named("outcome"), named("uncached"));
        let sig = &self.function.sig;
        let (inputs, asyncness, output) = (plain_inputs(&sig.inputs), &sig.asyncness, &sig.output);
        let (generics, _, bounds) = sig.generics.split_for_impl();
        let (site, cache, render) = (self.sibling(&self.site), self.cache(), self.render());
        let (passed, turbofish) = (self.passed(), self.turbofish());
        let call = |name: &Ident| {
            let function = self.sibling(name);
            self.awaited(&quote!(#function #turbofish(#(#passed),*)))
        };
        let (call_outcome, call_uncached) = (call(&self.outcome), call(&self.uncached));
        let with_outcome = self.outcome_output();
        quote! {
            #(#cfgs)*
            /// The key of a call.
            #[allow(dead_code, unused_variables, clippy::all, clippy::pedantic, reason = "as the function is written; unused at will")]
            #vis fn #key #generics (#inputs) -> #larder::Key #bounds {
                #site().key(#cache, |__larder_key: &mut #private::KeyBuf| { #render })
            }

            #(#cfgs)*
            /// The function's value with its provenance.
            #[allow(dead_code, clippy::all, clippy::pedantic, reason = "as the function is written; unused at will")]
            #vis #asyncness fn #outcome #generics (#inputs) -> #with_outcome #bounds {
                #call_outcome
            }

            #(#cfgs)*
            /// The function itself, past the cache.
            #[allow(dead_code, clippy::all, clippy::pedantic, reason = "as the function is written; unused at will")]
            #vis #asyncness fn #uncached #generics (#inputs) #output #bounds {
                #call_uncached
            }
        }
    }
}
