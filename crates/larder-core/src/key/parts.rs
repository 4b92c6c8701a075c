//! What can be a key, and part of one.

use std::{borrow::Cow, sync::Arc};

use super::{KeyBuf, KeyPart, ToKey};

impl ToKey for str {
    #[inline]
    fn write_key(&self, out: &mut KeyBuf) {
        out.path(self);
    }
}

impl ToKey for String {
    #[inline]
    fn write_key(&self, out: &mut KeyBuf) {
        out.path(self);
    }
}

impl ToKey for Cow<'_, str> {
    fn write_key(&self, out: &mut KeyBuf) {
        out.path(self);
    }
}

impl<K: ToKey + ?Sized> ToKey for &K {
    #[inline]
    fn write_key(&self, out: &mut KeyBuf) {
        (**self).write_key(out);
    }
}

impl KeyPart for str {
    #[inline]
    fn write_part(&self, out: &mut KeyBuf) {
        out.push_part(self);
    }
}

impl KeyPart for String {
    #[inline]
    fn write_part(&self, out: &mut KeyBuf) {
        out.push_part(self);
    }
}

impl KeyPart for Cow<'_, str> {
    fn write_part(&self, out: &mut KeyBuf) {
        out.push_part(self);
    }
}

impl KeyPart for char {
    fn write_part(&self, out: &mut KeyBuf) {
        out.push_part(self.encode_utf8(&mut [0; 4]));
    }
}

impl KeyPart for bool {
    fn write_part(&self, out: &mut KeyBuf) {
        out.push_raw(if *self { "true" } else { "false" });
    }
}

impl KeyPart for () {
    fn write_part(&self, _out: &mut KeyBuf) {}
}

macro_rules! integer_keys {
    ($($type:ty),*) => {$(
        impl KeyPart for $type {
            #[inline]
            fn write_part(&self, out: &mut KeyBuf) {
                match u64::try_from(*self) {
                    Ok(number) => out.push_number(number),
                    Err(_) => out.push_raw(itoa::Buffer::new().format(*self)),
                }
            }
        }

        impl ToKey for $type {
            #[inline]
            fn write_key(&self, out: &mut KeyBuf) {
                self.write_part(out);
            }
        }
    )*};
}

integer_keys!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

macro_rules! non_zero_keys {
    ($($type:ident),*) => {$(
        impl KeyPart for std::num::$type {
            fn write_part(&self, out: &mut KeyBuf) {
                self.get().write_part(out);
            }
        }
    )*};
}

non_zero_keys!(NonZeroU8, NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize, NonZeroI32, NonZeroI64);

macro_rules! displayed_keys {
    ($($type:ty),*) => {$(
        impl KeyPart for $type {
            fn write_part(&self, out: &mut KeyBuf) {
                out.push_part(&self.to_string());
            }
        }
    )*};
}

displayed_keys!(f32, f64, std::net::IpAddr, std::net::Ipv4Addr, std::net::Ipv6Addr, std::net::SocketAddr);

impl<P: KeyPart> KeyPart for Option<P> {
    const NULLABLE: bool = true;

    fn write_part(&self, out: &mut KeyBuf) {
        match self {
            None => out.push_raw("%n"),
            Some(value) => {
                if P::NULLABLE {
                    out.push_raw("%s");
                }
                value.write_part(out);
            }
        }
    }
}

impl<P: KeyPart> KeyPart for [P] {
    fn write_part(&self, out: &mut KeyBuf) {
        out.push_raw("%(");
        for part in self {
            part.write_part(out);
            out.push_raw("%,");
        }
        out.push_raw("%)");
    }
}

impl<P: KeyPart> KeyPart for Vec<P> {
    fn write_part(&self, out: &mut KeyBuf) {
        self.as_slice().write_part(out);
    }
}

impl<P: KeyPart, const N: usize> KeyPart for [P; N] {
    fn write_part(&self, out: &mut KeyBuf) {
        self.as_slice().write_part(out);
    }
}

macro_rules! pointer_parts {
    ($($pointer:ty),*) => {$(
        impl<P: KeyPart + ?Sized> KeyPart for $pointer {
            const NULLABLE: bool = P::NULLABLE;

            #[inline]
            fn write_part(&self, out: &mut KeyBuf) {
                (**self).write_part(out);
            }
        }
    )*};
}

pointer_parts!(&P, Box<P>, Arc<P>, std::rc::Rc<P>);

macro_rules! tuple_keys {
    ($(($first:ident $(, $rest:ident)*)),*) => {$(
        impl<$first: KeyPart, $($rest: KeyPart),*> ToKey for ($first, $($rest,)*) {
            #[inline]
            fn write_key(&self, out: &mut KeyBuf) {
                #[expect(non_snake_case, reason = "the type parameters name the fields")]
                let ($first, $($rest,)*) = self;
                $first.write_part(out);
                $(
                    out.separator();
                    $rest.write_part(out);
                )*
            }
        }

        impl<$first: KeyPart, $($rest: KeyPart),*> KeyPart for ($first, $($rest,)*) {
            fn write_part(&self, out: &mut KeyBuf) {
                #[expect(non_snake_case, reason = "the type parameters name the fields")]
                let ($first, $($rest,)*) = self;
                out.push_raw("%(");
                $first.write_part(out);
                $(
                    out.push_raw("%,");
                    $rest.write_part(out);
                )*
                out.push_raw("%)");
            }
        }
    )*};
}

tuple_keys!(
    (A),
    (A, B),
    (A, B, C),
    (A, B, C, D),
    (A, B, C, D, E),
    (A, B, C, D, E, F),
    (A, B, C, D, E, F, G),
    (A, B, C, D, E, F, G, H)
);
