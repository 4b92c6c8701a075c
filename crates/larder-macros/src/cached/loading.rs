//! What a call does that is not answered by the near tier.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use super::generate::Generator;

impl Generator<'_> {
    /// A block that loads through `miss`.
    pub(super) fn load(&self, miss: &TokenStream) -> TokenStream {
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
    pub(super) fn refresh(&self) -> TokenStream {
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
    pub(super) fn patience(&self, miss: &TokenStream) -> TokenStream {
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
        let private = &self.private;
        let (hold, give): (Vec<_>, Vec<_>) =
            self.signature.arguments.iter().map(|argument| argument.owned(private)).unzip();
        let uncached = self.sibling(&self.uncached);
        let turbofish = self.turbofish();
        let (this, pass_this) = if let Some(receiver) = self.function.sig.receiver() {
            let copy = quote_spanned!(receiver.self_token.span=> #private::specialise::hold::<Self>(self));
            (quote!(let __larder_self = #copy;), quote!(&__larder_self,))
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

    pub(super) fn cloned_arguments(&self) -> Vec<TokenStream> {
        let arguments = self.signature.arguments.iter().map(|argument| {
            let name = &argument.name;
            match argument.ty {
                syn::Type::Reference(_) => quote!(#name),
                _ => argument.copied(&self.private),
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
    pub(super) fn run_uncached(&self) -> TokenStream {
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
    pub(super) fn failure(&self) -> TokenStream {
        let (private, error) = (&self.private, self.returns.error_tokens());
        let run_uncached = self.run_uncached();
        let (site, render) = (self.sibling(&self.site), self.render());
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
                use #private::specialise::{ByClone as _, ByPointer as _, ByShared as _, ByTake as _};
                let __larder_error = (&&&&#private::specialise::Probe::<#error>::new()).recover(&__larder_slot);
                match __larder_error {
                    ::core::option::Option::Some(__larder_error) => {
                        return ::core::result::Result::Err(__larder_error);
                    }
                    // Another caller has it; this one loads anew, and the second time by itself: many callers of a function
                    // that goes on failing would else wait for one load after the other.
                    ::core::option::Option::None => {
                        __larder_rounds += 1;
                        if __larder_rounds > 1 {
                            #run_uncached
                        }
                        #private::forget_failure(#site(), __larder_cache, |__larder_key| { #render });
                    }
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
}
