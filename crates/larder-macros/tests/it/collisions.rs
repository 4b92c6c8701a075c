//! Functions that look alike have keys of their own.

use larder::cached;

#[derive(Clone)]
struct Dog;

#[derive(Clone)]
struct Cat;

impl Dog {
    #[cached(skip(self))]
    async fn says(&self, times: usize) -> String {
        "woof".repeat(times)
    }
}

impl Cat {
    #[cached(skip(self))]
    async fn says(&self, times: usize) -> String {
        "meow".repeat(times)
    }
}

#[larder::test]
async fn methods_of_one_name_on_two_types_do_not_collide() {
    assert_eq!(Dog.says(1).await, "woof");
    assert_eq!(Cat.says(1).await, "meow");
}

#[derive(Clone)]
struct Table<T>(std::marker::PhantomData<T>);

impl<T: Clone + Send + Sync + 'static> Table<T> {
    #[cached(skip(self))]
    async fn row_bytes(&self) -> usize {
        size_of::<T>()
    }
}

#[larder::test]
async fn a_generic_object_keeps_its_types_apart() {
    assert_eq!(Table::<u8>(std::marker::PhantomData).row_bytes().await, 1);
    assert_eq!(Table::<u64>(std::marker::PhantomData).row_bytes().await, 8);
}

#[cached]
async fn length<const N: usize>() -> usize {
    N
}

#[larder::test]
async fn a_constant_parameter_is_part_of_the_key() {
    assert_eq!(length::<1>().await, 1);
    assert_eq!(length::<2>().await, 2);
}

async fn first() -> u8 {
    #[cached]
    async fn local() -> u8 {
        1
    }
    local().await
}

async fn second() -> u8 {
    #[cached]
    async fn local() -> u8 {
        2
    }
    local().await
}

#[larder::test]
async fn local_functions_of_one_name_do_not_collide() {
    assert_eq!(first().await, 1);
    assert_eq!(second().await, 2);
}
