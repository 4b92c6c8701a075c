//! What a cached function expands to.
//!
//! The body moves to `__larder_uncached_NAME`. `__larder_outcome_NAME` looks into the cache and loads through it; the
//! function itself hands out that one's value. `__larder_site_NAME` is the function's entry in the engine. For a free
//! function they stand beside it, for a method in the same `impl`.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::{Attribute, FnArg, ItemFn, Meta, Pat, Token, punctuated::Punctuated};

use super::{options::Options, returns::Returns, signature::Signature};
use crate::{facade, template};

pub(crate) struct Generator<'a> {
    pub(super) function: &'a ItemFn,
    pub(super) options: &'a Options,
    pub(super) signature: &'a Signature,
    pub(super) returns: &'a Returns,
    pub(super) larder: TokenStream,
    pub(super) private: TokenStream,
    pub(super) site: Ident,
    pub(super) uncached: Ident,
    pub(super) outcome: Ident,
}

impl<'a> Generator<'a> {
    pub(crate) fn new(function: &'a ItemFn, options: &'a Options, signature: &'a Signature) -> Self {
        let name = &function.sig.ident;
        let larder = facade::path(options.krate.as_ref());
        Self {
            function,
            options,
            signature,
            returns: signature.returns.as_ref().expect("an expansion with errors ends before this"),
            private: quote!(#larder::__private),
            larder,
            site: format_ident!("__larder_site_{name}"),
            uncached: format_ident!("__larder_uncached_{name}"),
            outcome: format_ident!("__larder_outcome_{name}"),
        }
    }

    pub(crate) fn tokens(&self) -> TokenStream {
        if let Some(list) = &self.signature.list {
            return self.batch(list);
        }
        let (public, uncached, outcome, site) = (self.public(), self.uncached(), self.outcome(), self.site());
        let companion = self.companion();
        quote! {
            #public
            #uncached
            #outcome
            #site
            #companion
        }
    }

    /// `Self::name` or `name`.
    pub(super) fn sibling(&self, name: &Ident) -> TokenStream {
        if self.signature.has_self { quote!(Self::#name) } else { quote!(#name) }
    }

    /// The arguments as they are passed on, `self` first.
    pub(super) fn passed(&self) -> Vec<TokenStream> {
        let names = self.signature.arguments.iter().map(|argument| argument.name.to_token_stream());
        self.signature.has_self.then(|| quote!(self)).into_iter().chain(names).collect()
    }

    pub(super) fn awaited(&self, call: &TokenStream) -> TokenStream {
        if self.signature.is_async { quote!(#call.await) } else { quote!(#call) }
    }

    /// The type parameters, for calling a generic sibling.
    pub(super) fn turbofish(&self) -> TokenStream {
        let parameters = self.function.sig.generics.params.iter().filter_map(|parameter| match parameter {
            syn::GenericParam::Type(ty) => Some(ty.ident.to_token_stream()),
            syn::GenericParam::Const(constant) => Some(constant.ident.to_token_stream()),
            syn::GenericParam::Lifetime(_) => None,
        });
        let parameters: Vec<_> = parameters.collect();
        if parameters.is_empty() { TokenStream::new() } else { quote!(::<#(#parameters),*>) }
    }

    /// Attributes that decide whether the function is there at all.
    pub(super) fn cfgs(&self) -> Vec<&Attribute> {
        self.function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect()
    }

    /// The function's attributes. What a lint was expected to find is in one of two functions now, so it is allowed in both.
    pub(super) fn attributes(&self) -> Vec<Attribute> {
        let mut attributes = self.function.attrs.clone();
        for attribute in &mut attributes {
            if let (true, Meta::List(list)) = (attribute.path().is_ident("expect"), &mut attribute.meta) {
                list.path = format_ident!("allow").into();
            }
        }
        attributes
    }

    fn public(&self) -> TokenStream {
        let ItemFn { vis, sig, .. } = self.function;
        let attributes = self.attributes();
        let outcome = self.sibling(&self.outcome);
        let (passed, turbofish) = (self.passed(), self.turbofish());
        let call = self.awaited(&quote!(#outcome #turbofish(#(#passed),*)));
        let body = if self.returns.error.is_some() {
            quote!(::core::result::Result::Ok(#call?.value))
        } else {
            quote!(#call.value)
        };
        let mut sig = sig.clone();
        sig.inputs = plain_inputs(&sig.inputs);
        quote! {
            #(#attributes)*
            #[allow(clippy::used_underscore_binding, reason = "arguments keep the names that the function gives them")]
            #vis #sig { #body }
        }
    }

    pub(super) fn uncached(&self) -> TokenStream {
        let ItemFn { sig, block, .. } = self.function;
        let cfgs = self.cfgs();
        let is_lint = |attribute: &Attribute| {
            ["allow", "warn", "deny", "forbid"].iter().any(|level| attribute.path().is_ident(level))
        };
        let lints = self.attributes().into_iter().filter(is_lint);
        let mut sig = sig.clone();
        sig.ident = self.uncached.clone();
        quote!(#(#cfgs)* #(#lints)* #[doc(hidden)] #sig #block)
    }

    fn outcome(&self) -> TokenStream {
        let cfgs = self.cfgs();
        let mut sig = self.function.sig.clone();
        sig.ident = self.outcome.clone();
        sig.inputs = plain_inputs(&sig.inputs);
        let output = self.outcome_output();
        sig.output = syn::parse_quote!(-> #output);
        let body = self.outcome_body();
        quote! {
            #(#cfgs)*
            #[doc(hidden)]
            #[allow(dead_code, non_snake_case, unreachable_code, clippy::all, clippy::pedantic, reason = "as the function is written; unused at will")]
            #sig {
                #body
            }
        }
    }

    /// What the function returns, with its provenance.
    pub(super) fn outcome_output(&self) -> TokenStream {
        let (larder, value) = (&self.larder, self.returns.handed_out());
        match &self.returns.error {
            Some(error) => quote!(::core::result::Result<#larder::Outcome<#value>, #error>),
            None => quote!(#larder::Outcome<#value>),
        }
    }

    fn outcome_body(&self) -> TokenStream {
        let (private, error) = (&self.private, self.returns.error_tokens());
        let (value, optional) = (&self.returns.value, self.returns.optional);
        let (site, render, success) = (self.sibling(&self.site), self.render(), self.handed_out());
        let check =
            self.options.hard_timeout.as_ref().map(
                |(name, _)| quote::quote_spanned!(name.span()=> #private::specialise::takes_load_faults::<#error>();),
            );
        let cache = self.cache();
        let cache = quote!(let __larder_cache = #cache;);
        let look = quote!(#private::lookup::<#value>(#site(), __larder_cache, #optional, |__larder_key| { #render }));
        let slow = self.slow_path(&cache, &look);
        // Apart from the usual case, which a future of a few words does: it may be moved, and kept by thousands. The arguments go
        // along, as references to them could be sent to another thread only if they can be shared.
        let slow = if self.signature.is_async {
            let output = self.outcome_output();
            quote!(#private::boxed::<#output, _>(async move { #slow }).await)
        } else {
            slow
        };
        quote! {
            #check
            #cache
            let __larder_lookup = #look;
            if let #private::Lookup::Found(__larder_outcome) = __larder_lookup {
                return #success;
            }
            #slow
        }
    }

    /// What a call does that is not answered by a near hit, from what it has found on. `cache` and `look` are the statement and the
    /// expression by which it has found it.
    fn slow_path(&self, cache: &TokenStream, look: &TokenStream) -> TokenStream {
        let private = &self.private;
        let error = self.returns.error_tokens();
        let slot = quote!(#private::ErrorSlot<#error>);
        let (miss, refresh) = (self.load(&quote!(__larder_miss)), self.refresh());
        let (success, run_uncached, failure) = (self.handed_out(), self.run_uncached(), self.failure());
        // Only a function that can fail looks again.
        let (begin, again) = if self.returns.error.is_some() {
            let begin = quote! {
                #cache
                let mut __larder_lookup = __larder_lookup;
                let mut __larder_rounds = 0_u8;
            };
            (begin, quote!(__larder_lookup = #look;))
        } else {
            Default::default()
        };
        quote! {
            #begin
            loop {
                let __larder_answer = match __larder_lookup {
                    #private::Lookup::Found(__larder_outcome) => return #success,
                    #private::Lookup::Refresh(__larder_outcome, __larder_miss) => { #refresh }
                    #private::Lookup::Failed(__larder_any) => match __larder_any.downcast::<#slot>() {
                        ::core::result::Result::Ok(__larder_slot) => {
                            ::core::result::Result::Err(#private::LoadError::Loader(__larder_slot))
                        }
                        ::core::result::Result::Err(_) => { #run_uncached }
                    },
                    #private::Lookup::Miss(__larder_miss) => { #miss }
                };
                match __larder_answer {
                    ::core::result::Result::Ok(__larder_outcome) => return #success,
                    ::core::result::Result::Err(__larder_error) => match __larder_error.into_parts() {
                        #failure
                    },
                }
                #again
            }
        }
    }

    /// What the function returns for what was found.
    fn handed_out(&self) -> TokenStream {
        let ok = self.returns.hand_out(&quote!(__larder_found));
        self.success(&quote!(__larder_outcome.map(|__larder_found| #ok)))
    }

    pub(super) fn cache(&self) -> TokenStream {
        let larder = &self.larder;
        match &self.options.cache {
            Some(cache) => quote!(::core::option::Option::<&#larder::Cache>::Some(#cache)),
            None => quote!(::core::option::Option::<&#larder::Cache>::None),
        }
    }

    fn success(&self, value: &TokenStream) -> TokenStream {
        if self.returns.error.is_some() { quote!(::core::result::Result::Ok(#value)) } else { value.clone() }
    }

    pub(super) fn site(&self) -> TokenStream {
        let (private, cfgs) = (&self.private, self.cfgs());
        let (site, name) = (&self.site, self.function.sig.ident.to_string());
        let region = match &self.options.region {
            Some(region) => quote!(::core::option::Option::Some(#region)),
            None => quote!(::core::option::Option::None),
        };
        let strategy = self.options.strategy_tokens(private);
        let key = if let Some(template) = &self.options.key {
            let text = template::plain(&template.pieces);
            quote!(#private::KeyStyle::Template(#text))
        } else if self.options.key_fn.is_some() {
            quote!(#private::KeyStyle::Function)
        } else {
            let types = self.signature.arguments.iter().map(|argument| argument.ty.to_token_stream().to_string());
            let fingerprint = types.chain([self.function.sig.output.to_token_stream().to_string()]).collect::<Vec<_>>();
            let fingerprint = fingerprint.join(", ");
            quote!(#private::KeyStyle::Default { fingerprint: #fingerprint })
        };
        let near_only = self.options.near.is_some() || !self.signature.is_async;
        quote! {
            #(#cfgs)*
            #[doc(hidden)]
            #[allow(non_snake_case, reason = "the name is made from that of the function")]
            fn #site() -> &'static #private::Site {
                // Its path tells this function from others of its name: in another type, or within another function.
                struct Here;
                static NAME: ::std::sync::OnceLock<::std::string::String> = ::std::sync::OnceLock::new();
                static SITE: #private::Site = #private::Site::new(|| #private::SiteSpec {
                    module: ::core::module_path!(),
                    function: NAME.get_or_init(|| {
                        #private::specialise::function_name::<Here>(::core::module_path!(), #name)
                    }),
                    region: #region,
                    strategy: #strategy,
                    key: #key,
                    near_only: #near_only,
                });
                &SITE
            }
        }
    }
}

/// The arguments without `mut` and `ref`: only the body's own copy may need them.
pub(super) fn plain_inputs(inputs: &Punctuated<FnArg, Token![,]>) -> Punctuated<FnArg, Token![,]> {
    let mut inputs = inputs.clone();
    for input in &mut inputs {
        if let FnArg::Typed(typed) = input
            && let Pat::Ident(name) = typed.pat.as_mut()
        {
            name.by_ref = None;
            name.mutability = None;
        }
    }
    inputs
}
