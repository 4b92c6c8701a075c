//! What a cached function of many keys expands to: one load for those that are missing.
//!
//! The argument that lists the keys stands for one key wherever the call's key and tags are made.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::generate::{Generator, plain_inputs};
use crate::template;

impl Generator<'_> {
    pub(super) fn batch(&self, list: &Ident) -> TokenStream {
        let (public, uncached, site) = (self.batch_public(list), self.uncached(), self.site());
        let companion = self.batch_companion(&self.batch_calls(list));
        quote! {
            #public
            #uncached
            #site
            #companion
        }
    }

    fn key_type(&self) -> TokenStream {
        let keys = self.returns.keys.as_ref().expect("a batch without a map ends with an error before this");
        quote!(#keys)
    }

    fn batch_public(&self, list: &Ident) -> TokenStream {
        let (private, vis, attributes) = (&self.private, &self.function.vis, self.attributes());
        let (key, value, error) = (self.key_type(), &self.returns.value, self.returns.error_tokens());
        let slot = quote!(#private::ErrorSlot<#error>);
        let (site, cache, render) = (self.sibling(&self.site), self.cache(), self.render());
        let batch = self.patience(&quote!(__larder_batch));
        let method = if self.options.near.is_some() { quote!(load_near) } else { quote!(load) };
        let (hold, loader) = self.batch_loader(list, &slot);
        let found = if self.returns.shared {
            quote!(__larder_value)
        } else {
            quote!(<#value as ::core::clone::Clone>::clone(&__larder_value))
        };
        let failure = self.batch_failure();
        let check =
            self.options.hard_timeout.as_ref().map(
                |(name, _)| quote::quote_spanned!(name.span()=> #private::specialise::takes_load_faults::<#error>();),
            );
        let all = quote!(__larder_all);
        let done = if self.returns.error.is_some() { quote!(::core::result::Result::Ok(#all)) } else { all };
        let mut sig = self.function.sig.clone();
        sig.inputs = plain_inputs(&sig.inputs);
        quote! {
            #(#attributes)*
            #[allow(clippy::used_underscore_binding, reason = "arguments keep the names that the function gives them")]
            #vis #sig {
                #check
                let __larder_batch = #private::Batch::<#key>::new(
                    #site(),
                    #cache,
                    #list,
                    |#list: &#key, __larder_key: &mut #private::KeyBuf| { #render },
                );
                let __larder_answers = {
                    #hold
                    #batch.#method::<#value, #slot, _, _>(#loader).await
                };
                let mut __larder_all = ::std::collections::HashMap::with_capacity(#list.len());
                for (__larder_key, __larder_answer) in #list.iter().zip(__larder_answers) {
                    match __larder_answer {
                        ::core::result::Result::Ok(__larder_outcome) => {
                            if let ::core::option::Option::Some(__larder_value) = __larder_outcome.value {
                                __larder_all.insert(::core::clone::Clone::clone(__larder_key), #found);
                            }
                        }
                        ::core::result::Result::Err(__larder_error) => match __larder_error.into_parts() {
                            #failure
                        },
                    }
                }
                #done
            }
        }
    }

    /// Statements that hold the other arguments, and the loader.
    fn batch_loader(&self, list: &Ident, slot: &TokenStream) -> (TokenStream, TokenStream) {
        let private = &self.private;
        let (mut hold, mut give) = (Vec::new(), Vec::new());
        if let Some(receiver) = self.function.sig.receiver() {
            let copy = quote::quote_spanned!(receiver.self_token.span=> #private::specialise::hold::<Self>(self));
            hold.push(quote!(let __larder_self = #copy;));
            give.push(quote!(&__larder_self));
        }
        for argument in &self.signature.arguments {
            if argument.name == *list {
                give.push(quote!(&__larder_keys));
                continue;
            }
            let (kept, given) = argument.owned(private);
            hold.push(kept);
            give.push(given);
        }
        let (uncached, turbofish, key, value) =
            (self.sibling(&self.uncached), self.turbofish(), self.key_type(), &self.returns.value);
        let call = quote!(#uncached #turbofish(#(#give),*).await);
        let returned = if self.returns.error.is_some() { quote!(#call.map_err(<#slot>::new)?) } else { call };
        let wrap = if self.returns.shared { quote!(from_arc) } else { quote!(new) };
        let loaded = match &self.options.condition {
            Some(condition) => quote!(#private::on_condition(__larder_loaded, #condition)),
            None => quote!(__larder_loaded),
        };
        let tags = self.options.tags.iter().map(|template| {
            let render = template::render(&template.pieces, &quote!(__larder_tag));
            quote!(.tag(#private::tag(|__larder_tag| { #render })))
        });
        let loader = quote! {
            move |__larder_keys: ::std::vec::Vec<#key>| async move {
                let __larder_found = #returned;
                let mut __larder_loads: #private::BatchOf<#key, #value, #slot> = ::core::default::Default::default();
                for (#list, __larder_value) in __larder_found {
                    let __larder_loaded = #private::Loaded::<#value>::#wrap(__larder_value);
                    let __larder_loaded = #loaded #(#tags)*;
                    __larder_loads.insert(#list, ::core::result::Result::Ok(__larder_loaded));
                }
                ::core::result::Result::<_, #slot>::Ok(__larder_loads)
            }
        };
        (quote!(#(#hold)*), loader)
    }

    /// The arms of a key whose load failed: its error is the call's.
    fn batch_failure(&self) -> TokenStream {
        let (private, error) = (&self.private, self.returns.error_tokens());
        let uncached = self.sibling(&self.uncached);
        let (turbofish, passed) = (self.turbofish(), self.cloned_arguments());
        let run = quote!(return #uncached #turbofish(#(#passed),*).await);
        let resume = quote! {
            if let #private::LoadFault::Panicked(_) = &__larder_fault {
                #private::resume_panic(&__larder_fault);
            }
            #run
        };
        if self.returns.error.is_none() {
            return quote! {
                ::core::result::Result::Ok(_) => { #run }
                ::core::result::Result::Err(__larder_fault) => { #resume }
            };
        }
        quote! {
            ::core::result::Result::Ok(__larder_slot) => {
                use #private::specialise::{ByClone as _, ByPointer as _, ByShared as _, ByTake as _};
                match (&&&&#private::specialise::Probe::<#error>::new()).recover(&__larder_slot) {
                    ::core::option::Option::Some(__larder_error) => {
                        return ::core::result::Result::Err(__larder_error);
                    }
                    // Another caller has it.
                    ::core::option::Option::None => { #run }
                }
            }
            ::core::result::Result::Err(__larder_fault) => {
                use #private::specialise::{FaultByFrom as _, FaultUntold as _};
                match (&&#private::specialise::Probe::<#error>::new()).tell(__larder_fault) {
                    ::core::result::Result::Ok(__larder_error) => {
                        return ::core::result::Result::Err(__larder_error);
                    }
                    ::core::result::Result::Err(__larder_fault) => { #resume }
                }
            }
        }
    }

    /// The companion's members that take the function's arguments.
    fn batch_calls(&self, list: &Ident) -> TokenStream {
        let (larder, private, vis, cfgs) = (&self.larder, &self.private, &self.function.vis, self.cfgs());
        let (key, uncached) = (self.member("cache_key"), self.member("uncached"));
        let sig = &self.function.sig;
        let (inputs, output) = (plain_inputs(&sig.inputs), &sig.output);
        let (generics, _, bounds) = sig.generics.split_for_impl();
        let (site, cache, render) = (self.sibling(&self.site), self.cache(), self.render());
        let (name, passed, turbofish) = (self.sibling(&self.uncached), self.passed(), self.turbofish());
        let mut one = inputs.clone();
        for input in &mut one {
            if let syn::FnArg::Typed(typed) = input
                && matches!(typed.pat.as_ref(), syn::Pat::Ident(name) if name.ident == *list)
            {
                let item = self.key_type();
                *typed.ty = syn::parse_quote!(&#item);
            }
        }
        quote! {
            #(#cfgs)*
            /// The key of one value.
            #[allow(dead_code, unused_variables, clippy::all, clippy::pedantic, reason = "as the function is written; unused at will")]
            #vis fn #key #generics (#one) -> #larder::Key #bounds {
                #site().key(#cache, |__larder_key: &mut #private::KeyBuf| { #render })
            }

            #(#cfgs)*
            /// The function itself, past the cache.
            #[allow(dead_code, clippy::all, clippy::pedantic, reason = "as the function is written; unused at will")]
            #vis async fn #uncached #generics (#inputs) #output #bounds {
                #name #turbofish(#(#passed),*).await
            }
        }
    }
}
