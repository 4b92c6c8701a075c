use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use larder::{Cache, KeyPart, cached};

static ASKED: Mutex<Vec<Vec<u32>>> = Mutex::new(Vec::new());

#[derive(Debug, Clone, PartialEq)]
struct Down;

#[cached(batch, key = "square:{numbers}", tags = ["number:{numbers}"], cache_none = "10s")]
async fn squares(numbers: &[u32]) -> Result<HashMap<u32, u32>, Down> {
    ASKED.lock().expect("no test panics under the lock").push(numbers.to_vec());
    if numbers.contains(&13) {
        return Err(Down);
    }
    Ok(numbers.iter().filter(|number| **number < 100).map(|number| (*number, number * number)).collect())
}

#[larder::test]
async fn a_batch_loads_each_key_once_and_only_what_is_missing(cache: Cache) {
    assert_eq!(squares(&[2, 3]).await.unwrap(), HashMap::from([(2, 4), (3, 9)]));
    assert_eq!(squares(&[3, 4, 100]).await.unwrap(), HashMap::from([(3, 9), (4, 16)]));
    assert_eq!(squares(&[100]).await.unwrap(), HashMap::new());
    assert_eq!(squares(&[13, 2]).await, Err(Down));
    cache.invalidate().tag("number:3").await.unwrap();
    squares(&[2, 3]).await.unwrap();
    assert_eq!(*ASKED.lock().unwrap(), [vec![2, 3], vec![4, 100], vec![13], vec![3]]);
    assert_eq!(cache.get("fn:square:2").await, Some(Arc::new(4_u32)));
    assert_eq!(squares::cache_key(&7).as_str(), "larder:fn:square:7");
    assert_eq!(squares::uncached(&[5]).await.unwrap()[&5], 25);
    assert_eq!(squares::cache_info().stats.loads, 4);
    squares::cache_clear().await.unwrap();
    assert_eq!(squares::cache_info().entries, 0);
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, KeyPart)]
struct Symbol(String);

/// No serde, no `Clone`.
struct Book(usize);

#[derive(Clone)]
struct Exchange {
    calls: Arc<AtomicU32>,
}

impl Exchange {
    #[cached(batch, near, skip(self), condition = |book: &Book| book.0 > 1, companion = books)]
    async fn books(&self, depth: usize, symbols: &[Symbol]) -> HashMap<Symbol, Arc<Book>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        symbols.iter().map(|symbol| (symbol.clone(), Arc::new(Book(depth * symbol.0.len())))).collect()
    }
}

#[larder::test]
async fn a_method_may_be_a_batch_with_further_arguments() {
    let exchange = Exchange { calls: Arc::default() };
    let (short, long) = (Symbol("A".into()), Symbol("AB".into()));
    for depth in [1, 1, 2] {
        let books = exchange.books(depth, &[short.clone(), long.clone()]).await;
        assert_eq!((books[&short].0, books[&long].0), (depth, depth * 2));
    }
    // Depth 1 of the short one does not meet the condition, and so is loaded twice.
    assert_eq!(exchange.calls.load(Ordering::SeqCst), 3);
    assert_eq!(Exchange::books_cache_info().stats.loads, 3);
}

#[cached(batch)]
async fn breaks(numbers: &[u8]) -> HashMap<u8, u8> {
    panic!("no numbers today: {}", numbers.len())
}

#[larder::test]
async fn a_batch_that_panics_panics_in_its_caller() {
    let panic = tokio::spawn(breaks(&[1, 2])).await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "no numbers today: 2");
}
