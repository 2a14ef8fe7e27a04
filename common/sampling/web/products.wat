;; The innermost loop of the generator: products of an input pixel's channels with rows of weights.
;; In WebAssembly it is five times as fast as in JavaScript.
;;
;; products.wasm is this file, assembled; CONTRIBUTING.md says how.
(module
  (import "page" "memory" (memory 1))

  ;; sums[j] += value * row[j], for each entry of a list and each output channel j
  ;;
  ;; sums     where the sums are: `stride` bytes of float32
  ;; weights  where the rows of weights are: one for each input channel, each of `stride` bytes
  ;; list     where the entries are, 8 bytes each: a row's offset from `weights`, and a value
  ;; end      where they end; their number is even
  ;; stride   bytes of a row, a multiple of 32
  (func (export "add_products")
    (param $sums i32) (param $weights i32) (param $list i32) (param $end i32) (param $stride i32)
    (local $channel i32)  ;; the first of eight output channels, in bytes
    (local $target i32) (local $column i32) (local $entry i32) (local $row i32)
    (local $value v128)
    ;; sums of the eight channels, apart for even and odd entries: an addition takes several cycles,
    ;; and need not wait for the one before it
    (local $even0 v128) (local $even1 v128) (local $odd0 v128) (local $odd1 v128)
    (loop $channels
      (local.set $target (i32.add (local.get $sums) (local.get $channel)))
      (local.set $column (i32.add (local.get $weights) (local.get $channel)))
      (local.set $even0 (v128.load (local.get $target)))
      (local.set $even1 (v128.load offset=16 (local.get $target)))
      (local.set $odd0 (v128.const f32x4 0 0 0 0))
      (local.set $odd1 (v128.const f32x4 0 0 0 0))
      (local.set $entry (local.get $list))
      (block $done
        (loop $entries
          (br_if $done (i32.ge_u (local.get $entry) (local.get $end)))
          (local.set $row (i32.add (local.get $column) (i32.load (local.get $entry))))
          (local.set $value (v128.load32_splat offset=4 (local.get $entry)))
          (local.set $even0 (f32x4.add (local.get $even0)
            (f32x4.mul (local.get $value) (v128.load (local.get $row)))))
          (local.set $even1 (f32x4.add (local.get $even1)
            (f32x4.mul (local.get $value) (v128.load offset=16 (local.get $row)))))
          (local.set $row (i32.add (local.get $column) (i32.load offset=8 (local.get $entry))))
          (local.set $value (v128.load32_splat offset=12 (local.get $entry)))
          (local.set $odd0 (f32x4.add (local.get $odd0)
            (f32x4.mul (local.get $value) (v128.load (local.get $row)))))
          (local.set $odd1 (f32x4.add (local.get $odd1)
            (f32x4.mul (local.get $value) (v128.load offset=16 (local.get $row)))))
          (local.set $entry (i32.add (local.get $entry) (i32.const 16)))
          (br $entries)))
      (v128.store (local.get $target) (f32x4.add (local.get $even0) (local.get $odd0)))
      (v128.store offset=16 (local.get $target) (f32x4.add (local.get $even1) (local.get $odd1)))
      (local.set $channel (i32.add (local.get $channel) (i32.const 32)))
      (br_if $channels (i32.lt_u (local.get $channel) (local.get $stride))))))
