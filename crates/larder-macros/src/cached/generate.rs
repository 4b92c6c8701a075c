//! What a cached function expands to.
//!
//! The body moves to `__larder_uncached_NAME`. `__larder_outcome_NAME` looks into the cache and loads through it; the
//! function itself hands out that one's value. `__larder_site_NAME` is the function's entry in the engine. For a free
//! function they stand beside it, for a method in the same `impl`.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::{Attribute, FnArg, ItemFn, Pat, spanned::Spanned};

use super::{options::Options, returns::Returns, signature::Signature};
use crate::{facade, template};

pub(crate) struct Generator<'a> {
    function: &'a ItemFn,
    options: &'a Options,
    signature: &'a Signature,
    returns: &'a Returns,
    larder: TokenStream,
    private: TokenStream,
    site: Ident,
    uncached: Ident,
    outcome: Ident,
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
    fn sibling(&self, name: &Ident) -> TokenStream {
        if self.signature.has_self { quote!(Self::#name) } else { quote!(#name) }
    }

    /// The arguments as they are passed on, `self` first.
    fn passed(&self) -> Vec<TokenStream> {
        let names = self.signature.arguments.iter().map(|argument| argument.name.to_token_stream());
        self.signature.has_self.then(|| quote!(self)).into_iter().chain(names).collect()
    }

    fn awaited(&self, call: &TokenStream) -> TokenStream {
        if self.signature.is_async { quote!(#call.await) } else { quote!(#call) }
    }

    /// The type parameters, for calling a generic sibling.
    fn turbofish(&self) -> TokenStream {
        let parameters = self.function.sig.generics.params.iter().filter_map(|parameter| match parameter {
            syn::GenericParam::Type(ty) => Some(ty.ident.to_token_stream()),
            syn::GenericParam::Const(constant) => Some(constant.ident.to_token_stream()),
            syn::GenericParam::Lifetime(_) => None,
        });
        let parameters: Vec<_> = parameters.collect();
        if parameters.is_empty() { TokenStream::new() } else { quote!(::<#(#parameters),*>) }
    }

    /// Attributes that decide whether the function is there at all.
    fn cfgs(&self) -> Vec<&Attribute> {
        self.function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect()
    }

    fn public(&self) -> TokenStream {
        let ItemFn { attrs, vis, sig, .. } = self.function;
        let outcome = self.sibling(&self.outcome);
        let (passed, turbofish) = (self.passed(), self.turbofish());
        let call = self.awaited(&quote!(#outcome #turbofish(#(#passed),*)));
        let body = if self.returns.error.is_some() {
            quote!(::core::result::Result::Ok(#call?.value))
        } else {
            quote!(#call.value)
        };
        let inputs = plain_inputs(&sig.inputs);
        let mut sig = sig.clone();
        sig.inputs = inputs;
        quote!(#(#attrs)* #vis #sig { #body })
    }

    fn uncached(&self) -> TokenStream {
        let ItemFn { sig, block, attrs, .. } = self.function;
        let cfgs = self.cfgs();
        let lints = attrs
            .iter()
            .filter(|attribute| ["allow", "expect", "warn", "deny"].iter().any(|name| attribute.path().is_ident(name)));
        let mut sig = sig.clone();
        sig.ident = self.uncached.clone();
        quote!(#(#cfgs)* #(#lints)* #[doc(hidden)] #sig #block)
    }

    fn outcome(&self) -> TokenStream {
        let cfgs = self.cfgs();
        let larder = &self.larder;
        let mut sig = self.function.sig.clone();
        sig.ident = self.outcome.clone();
        sig.inputs = plain_inputs(&sig.inputs);
        let value = self.returns.handed_out();
        let outcome = quote!(#larder::Outcome<#value>);
        let output = match &self.returns.error {
            Some(error) => quote!(::core::result::Result<#outcome, #error>),
            None => outcome,
        };
        sig.output = syn::parse_quote!(-> #output);
        let body = self.outcome_body();
        quote! {
            #(#cfgs)*
            #[doc(hidden)]
            #[allow(dead_code, non_snake_case, unreachable_code, clippy::all, clippy::pedantic)]
            #sig {
                #body
            }
        }
    }

    fn outcome_body(&self) -> TokenStream {
        let (private, returns) = (&self.private, self.returns);
        let (value, error) = (&returns.value, returns.error_tokens());
        let site = self.sibling(&self.site);
        let cache = self.cache();
        let render = self.render();
        let slot = quote!(#private::ErrorSlot<#error>);
        let miss = self.load(&quote!(__larder_miss));
        let refresh = self.refresh();
        let ok = returns.hand_out(&quote!(__larder_found));
        let success = self.success(&quote!(__larder_outcome.map(|__larder_found| #ok)));
        let run_uncached = self.run_uncached();
        let failure = self.failure();
        let check =
            self.options.hard_timeout.as_ref().map(
                |(name, _)| quote::quote_spanned!(name.span()=> #private::specialise::takes_load_faults::<#error>();),
            );
        quote! {
            #check
            loop {
                let __larder_cache = #cache;
                let __larder_answer = match #private::lookup::<#value>(
                    #site(),
                    __larder_cache,
                    |__larder_key| { #render },
                ) {
                    #private::Lookup::Found(__larder_outcome) => ::core::result::Result::Ok(__larder_outcome),
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
            }
        }
    }

    fn cache(&self) -> TokenStream {
        let larder = &self.larder;
        match &self.options.cache {
            Some(cache) => quote!(::core::option::Option::<&#larder::Cache>::Some(#cache)),
            None => quote!(::core::option::Option::<&#larder::Cache>::None),
        }
    }

    fn success(&self, value: &TokenStream) -> TokenStream {
        if self.returns.error.is_some() { quote!(::core::result::Result::Ok(#value)) } else { value.clone() }
    }

    /// Statements that append the call's part of the key to `__larder_key`.
    fn render(&self) -> TokenStream {
        let private = &self.private;
        if let Some(template) = &self.options.key {
            return template::render(&template.pieces, &quote!(__larder_key));
        }
        if let Some(function) = &self.options.key_fn {
            let arguments = self.signature.arguments.iter().map(|argument| {
                let name = &argument.name;
                if matches!(argument.ty, syn::Type::Reference(_)) { quote!(#name) } else { quote!(&#name) }
            });
            let this = self.signature.has_self.then(|| quote!(self)).into_iter();
            let all = this.chain(arguments);
            return quote!(#private::ToKey::write_key(&(#function)(#(#all),*), __larder_key););
        }
        let is_skipped = |name: &Ident| self.options.skip.contains(name);
        let types = self.function.sig.generics.type_params().map(|parameter| {
            let name = &parameter.ident;
            quote!(::core::any::type_name::<#name>())
        });
        let this = (self.signature.has_self && !is_skipped(&format_ident!("self"))).then(|| quote!(self));
        let arguments = self.signature.arguments.iter().filter(|argument| !is_skipped(&argument.name));
        let parts = types.chain(this).chain(arguments.map(|argument| argument.name.to_token_stream()));
        let steps = parts.enumerate().map(|(index, part)| {
            let separator = (index > 0).then(|| quote!(__larder_key.separator();));
            // The argument's own place, for the message about a type that has no `KeyPart`.
            let reference = quote::quote_spanned!(part.span()=> &#part);
            quote!(#separator __larder_key.part(#reference);)
        });
        quote!(#(#steps)*)
    }

    fn tags(&self) -> TokenStream {
        let private = &self.private;
        let tags = self.options.tags.iter().map(|template| {
            let render = template::render(&template.pieces, &quote!(__larder_tag));
            quote!(#private::tag(|__larder_tag| { #render }))
        });
        quote!(::std::vec![#(#tags),*])
    }

    /// A block that loads through `miss`.
    fn load(&self, miss: &TokenStream) -> TokenStream {
        let tags = self.tags();
        let (value, error) = (&self.returns.value, self.returns.error_tokens());
        let private = &self.private;
        let slot = quote!(#private::ErrorSlot<#error>);
        let patience = self.patience(miss);
        let near = self.options.near.is_some();
        if !self.signature.is_async {
            let loader = self.borrowed_loader();
            return quote!({ let __larder_tags = #tags; #miss.load_sync::<#value, #slot>(__larder_tags, || { #loader }) });
        }
        if self.options.inline.is_some() {
            let method = if near { quote!(load_near_inline) } else { quote!(load_inline) };
            let loader = self.borrowed_loader();
            return quote!({
                let __larder_tags = #tags;
                #patience.#method::<#value, #slot, _, _>(__larder_tags, || async { #loader }).await
            });
        }
        let method = if near { quote!(load_near) } else { quote!(load) };
        let (hold, loader) = self.owned_loader();
        quote!({
            let __larder_tags = #tags;
            #hold
            #patience.#method::<#value, #slot, _, _>(__larder_tags, move || async move { #loader }).await
        })
    }

    /// A refresh in the background where the loader can outlive the call; else in place, once the value is stale.
    fn refresh(&self) -> TokenStream {
        if !self.signature.is_async || self.options.inline.is_some() {
            let load = self.load(&quote!(__larder_miss));
            return quote! {
                if __larder_outcome.stale { #load } else { ::core::result::Result::Ok(__larder_outcome) }
            };
        }
        let (value, error) = (&self.returns.value, self.returns.error_tokens());
        let private = &self.private;
        let method = if self.options.near.is_some() { quote!(refresh_near) } else { quote!(refresh) };
        let (hold, loader) = self.owned_loader();
        let tags = self.tags();
        quote! {
            let __larder_tags = #tags;
            #hold
            __larder_miss.#method::<#value, #private::ErrorSlot<#error>, _, _>(
                __larder_tags,
                move || async move { #loader },
            );
            ::core::result::Result::Ok(__larder_outcome)
        }
    }

    /// Without a way to tell a time-out there is none.
    fn patience(&self, miss: &TokenStream) -> TokenStream {
        if self.options.hard_timeout.is_some() {
            return quote!(#miss);
        }
        let (private, error) = (&self.private, self.returns.error_tokens());
        quote! {
            {
                use #private::specialise::{FaultByFrom as _, FaultUntold as _};
                #miss.patient(!(&&#private::specialise::Probe::<#error>::new()).tells_faults())
            }
        }
    }

    /// Statements that hold the arguments, and the loader's body that uses them.
    fn owned_loader(&self) -> (TokenStream, TokenStream) {
        let (hold, give): (Vec<_>, Vec<_>) =
            self.signature.arguments.iter().map(super::signature::Argument::owned).unzip();
        let uncached = self.sibling(&self.uncached);
        let turbofish = self.turbofish();
        let (this, pass_this) = if self.signature.has_self {
            (quote!(let __larder_self = ::core::clone::Clone::clone(self);), quote!(&__larder_self,))
        } else {
            (TokenStream::new(), TokenStream::new())
        };
        let call = quote!(#uncached #turbofish(#pass_this #(#give),*).await);
        (quote!(#this #(#hold)*), self.loaded(&call))
    }

    /// The loader's body over the arguments themselves; those that are not references are cloned.
    fn borrowed_loader(&self) -> TokenStream {
        let uncached = self.sibling(&self.uncached);
        let turbofish = self.turbofish();
        let passed = self.cloned_arguments();
        let call = self.awaited(&quote!(#uncached #turbofish(#(#passed),*)));
        self.loaded(&call)
    }

    fn cloned_arguments(&self) -> Vec<TokenStream> {
        let arguments = self.signature.arguments.iter().map(|argument| {
            let name = &argument.name;
            match argument.ty {
                syn::Type::Reference(_) => quote!(#name),
                _ => quote!(::core::clone::Clone::clone(&#name)),
            }
        });
        self.signature.has_self.then(|| quote!(self)).into_iter().chain(arguments).collect()
    }

    /// What a call of the body returns, as the cache takes it.
    fn loaded(&self, call: &TokenStream) -> TokenStream {
        let (private, returns) = (&self.private, self.returns);
        let (value, error) = (&returns.value, returns.error_tokens());
        let wrap = if returns.shared { quote!(from_arc) } else { quote!(new) };
        let kept = match &self.options.condition {
            Some(condition) => quote! {{
                let __larder_loaded = #private::Loaded::<#value>::#wrap(__larder_value);
                #private::on_condition(__larder_loaded, #condition)
            }},
            None => quote!(#private::Loaded::<#value>::#wrap(__larder_value)),
        };
        let whole = if returns.optional {
            quote! {
                match __larder_value {
                    ::core::option::Option::Some(__larder_value) => #kept,
                    ::core::option::Option::None => #private::Loaded::<#value>::nothing(),
                }
            }
        } else {
            kept
        };
        let result = if returns.error.is_some() {
            quote!(#call.map_err(#private::ErrorSlot::<#error>::new))
        } else {
            quote!(::core::result::Result::<_, #private::ErrorSlot<#error>>::Ok(#call))
        };
        quote!(#result.map(|__larder_value| #whole))
    }

    /// Leaves the function with what the body itself returns.
    fn run_uncached(&self) -> TokenStream {
        let larder = &self.larder;
        let uncached = self.sibling(&self.uncached);
        let turbofish = self.turbofish();
        let passed = self.cloned_arguments();
        let call = self.awaited(&quote!(#uncached #turbofish(#(#passed),*)));
        if self.returns.error.is_some() {
            quote!(return #call.map(#larder::Outcome::loaded))
        } else {
            quote!(return #larder::Outcome::loaded(#call))
        }
    }

    /// The arms of a load that failed.
    fn failure(&self) -> TokenStream {
        let (private, error) = (&self.private, self.returns.error_tokens());
        let run_uncached = self.run_uncached();
        if self.returns.error.is_none() {
            return quote! {
                ::core::result::Result::Ok(_) => { #run_uncached }
                ::core::result::Result::Err(__larder_fault) => {
                    if let #private::LoadFault::Panicked(_) = &__larder_fault {
                        #private::resume_panic(&__larder_fault);
                    }
                    #run_uncached
                }
            };
        }
        quote! {
            ::core::result::Result::Ok(__larder_slot) => {
                use #private::specialise::{ByClone as _, ByShared as _, ByTake as _};
                let __larder_error = (&&&#private::specialise::Probe::<#error>::new()).recover(&__larder_slot);
                match __larder_error {
                    ::core::option::Option::Some(__larder_error) => {
                        return ::core::result::Result::Err(__larder_error);
                    }
                    // Another caller has it; this one loads anew.
                    ::core::option::Option::None => continue,
                }
            }
            ::core::result::Result::Err(__larder_fault) => {
                use #private::specialise::{FaultByFrom as _, FaultUntold as _};
                match (&&#private::specialise::Probe::<#error>::new()).tell(__larder_fault) {
                    ::core::result::Result::Ok(__larder_error) => {
                        return ::core::result::Result::Err(__larder_error);
                    }
                    ::core::result::Result::Err(__larder_fault) => {
                        if let #private::LoadFault::Panicked(_) = &__larder_fault {
                            #private::resume_panic(&__larder_fault);
                        }
                        #run_uncached
                    }
                }
            }
        }
    }

    fn site(&self) -> TokenStream {
        let (private, cfgs) = (&self.private, self.cfgs());
        let (site, name) = (&self.site, self.function.sig.ident.to_string());
        let region = match &self.options.region {
            Some(region) => quote!(::core::option::Option::Some(#region)),
            None => quote!(::core::option::Option::None),
        };
        let strategy = self.options.strategy_tokens(private);
        let key = if let Some(template) = &self.options.key {
            let literal = &template.literal;
            quote!(#private::KeyStyle::Template(#literal))
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
            fn #site() -> &'static #private::Site {
                static SITE: #private::Site = #private::Site::new(|| #private::SiteSpec {
                    module: ::core::module_path!(),
                    function: #name,
                    region: #region,
                    strategy: #strategy,
                    key: #key,
                    near_only: #near_only,
                });
                &SITE
            }
        }
    }

    fn companion(&self) -> TokenStream {
        if self.signature.has_self { self.method_companion() } else { self.function_companion() }
    }

    fn method_companion(&self) -> TokenStream {
        let Some(name) = &self.options.companion else { return TokenStream::new() };
        let (larder, vis, cfgs, site) = (&self.larder, &self.function.vis, self.cfgs(), &self.site);
        let (info, clear) = (format_ident!("{name}_cache_info"), format_ident!("{name}_cache_clear"));
        let cache = self.cache();
        quote! {
            #(#cfgs)*
            /// The figures of the cached method.
            #[allow(dead_code)]
            #vis fn #info() -> #larder::CacheInfo {
                Self::#site().info(#cache)
            }

            #(#cfgs)*
            /// Drops what the cached method has stored, in both tiers.
            #[allow(dead_code)]
            #vis async fn #clear() -> #larder::Result<#larder::Invalidated> {
                Self::#site().clear(#cache).await
            }
        }
    }

    fn function_companion(&self) -> TokenStream {
        let (larder, private, site) = (&self.larder, &self.private, &self.site);
        let (vis, cfgs) = (&self.function.vis, self.cfgs());
        let name = self.options.companion.as_ref().unwrap_or(&self.function.sig.ident);
        let cache = self.cache();
        let render = self.render();
        let (uncached, outcome) = (&self.uncached, &self.outcome);
        let (passed, turbofish) = (self.passed(), self.turbofish());
        let sig = &self.function.sig;
        let inputs = plain_inputs(&sig.inputs);
        let (generics, _, bounds) = sig.generics.split_for_impl();
        let (asyncness, output) = (&sig.asyncness, &sig.output);
        let value = self.returns.handed_out();
        let with_outcome = match &self.returns.error {
            Some(error) => quote!(::core::result::Result<#larder::Outcome<#value>, #error>),
            None => quote!(#larder::Outcome<#value>),
        };
        let call_uncached = self.awaited(&quote!(#uncached #turbofish(#(#passed),*)));
        let call_outcome = self.awaited(&quote!(#outcome #turbofish(#(#passed),*)));
        let doc = format!("What the cache knows of [`{0}`](fn@{0}).", sig.ident);
        quote! {
            #(#cfgs)*
            #[doc = #doc]
            #[allow(non_camel_case_types, dead_code)]
            #[derive(Debug)]
            #vis enum #name {}

            #(#cfgs)*
            #[allow(dead_code, unused_variables, clippy::all, clippy::pedantic)]
            impl #name {
                /// The function's figures.
                #[must_use]
                #vis fn cache_info() -> #larder::CacheInfo {
                    #site().info(#cache)
                }

                /// Drops what the function has stored, in both tiers.
                ///
                /// # Errors
                /// Those of the remote tier.
                #vis async fn cache_clear() -> #larder::Result<#larder::Invalidated> {
                    #site().clear(#cache).await
                }

                /// The key of a call.
                #vis fn cache_key #generics (#inputs) -> #larder::Key #bounds {
                    #site().key(#cache, |__larder_key: &mut #private::KeyBuf| { #render })
                }

                /// The function's value with its provenance.
                #vis #asyncness fn outcome #generics (#inputs) -> #with_outcome #bounds {
                    #call_outcome
                }

                /// The function itself, past the cache.
                #vis #asyncness fn uncached #generics (#inputs) #output #bounds {
                    #call_uncached
                }
            }
        }
    }
}

/// The arguments without `mut`: only the body's own copy may need it.
fn plain_inputs(
    inputs: &syn::punctuated::Punctuated<FnArg, syn::Token![,]>,
) -> syn::punctuated::Punctuated<FnArg, syn::Token![,]> {
    let mut inputs = inputs.clone();
    for input in &mut inputs {
        if let FnArg::Typed(typed) = input
            && let Pat::Ident(name) = typed.pat.as_mut()
        {
            name.mutability = None;
        }
    }
    inputs
}
