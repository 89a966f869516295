// A Rust program that ends in the way it is asked to; see test_rust.py.
use std::hint::black_box;

#[inline(never)]
fn read_at(address: usize) -> u32 {
    unsafe { *(black_box(address) as *const u32) }
}

#[inline(never)]
fn descend(depth: u64) -> u64 {
    let page = black_box([depth; 32]);
    descend(depth + 1) ^ page[(depth % 32) as usize]
}

#[inline(never)]
fn look(name: &str) -> usize {
    match name {
        "formatted" => panic!("order {} not found in shard {}", name, 1000),
        "unwrap" => name.parse::<usize>().unwrap(),
        "index" => {
            let prices = black_box(vec![1usize]);
            prices[name.len()]
        }
        "abort" => std::process::abort(),
        _ => name.len(),
    }
}

fn main() {
    let mode = std::env::args().nth(1).unwrap_or_default();
    for _ in 0..4 {
        std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(60)));
    }
    match mode.as_str() {
        "null" => println!("{}", read_at(8)),
        "wild" => println!("{}", read_at(0x1234_5678_9abc)),
        "overflow" => println!("{}", descend(0)),
        "thread" => {
            let worker = std::thread::spawn(|| read_at(0));
            println!("{:?}", worker.join());
        }
        _ => println!("{}", look(&mode)),
    }
}
