# SPDX-License-Identifier: Apache-2.0
"""Every suite's figure and findings: their messages follow the numbers."""

import pytest
import synthetic
from figures import look, results
from figures.suites import SUITES
from matplotlib.text import Text


def draw(suite, path):
    return SUITES[suite].draw(results.read(path))


def texts(fig):
    """All that a reader can read in a figure."""
    fig.canvas.draw()
    found = [text.get_text() for text in fig.findobj(Text)]
    return " ".join(" ".join(found).split())


def findings(suite, path):
    return SUITES[suite].findings(results.read(path))


def test_there_is_a_synthetic_file_for_every_suite():
    assert list(synthetic.MAKERS) == list(SUITES)


@pytest.mark.parametrize("suite", SUITES)
def test_a_figure_says_where_it_comes_from_and_is_the_same_every_time(tmp_path, suite):
    path = synthetic.MAKERS[suite](tmp_path)
    fig = draw(suite, path)
    assert "NVIDIA H100, kernel sm90a · commit 0123abc · podattn bench suite" in texts(fig)
    svg, png = look.save(fig, tmp_path, suite)
    assert png.read_bytes()[:4] == b"\x89PNG"
    first = svg.read_bytes()
    assert look.save(draw(suite, path), tmp_path, suite)[0].read_bytes() == first


@pytest.mark.parametrize("suite", SUITES)
def test_all_that_is_drawn_lies_inside_the_picture(tmp_path, suite):
    fig = draw(suite, synthetic.MAKERS[suite](tmp_path))
    drawn, (width, height) = fig.get_tightbbox(), fig.get_size_inches()
    assert drawn.x0 >= 0 and drawn.x1 <= width
    assert drawn.y0 >= 0 and drawn.y1 <= height


@pytest.mark.parametrize("suite", SUITES)
def test_a_file_of_something_else_is_refused_by_name(tmp_path, suite):
    path = synthetic.write(tmp_path / f"{suite}.csv", ["colour"], [{"colour": "blue"}])
    with pytest.raises(results.ResultError, match=rf"{suite}\.csv: no column .*; it has colour"):
        draw(suite, path)


def test_peak(tmp_path):
    path = synthetic.peak(tmp_path, both_tflops=480)
    assert "While it reads at full speed, the chip computes at 75% of its own" in texts(draw("peak", path))
    assert "**Holds.**" in findings("peak", path)
    assert "**Holds in part.**" in findings("peak", synthetic.peak(tmp_path, both_tflops=100))


def test_utilisation(tmp_path):
    path = synthetic.utilisation(tmp_path)
    said = "Fused uses 60% of the SMs and 70% of the memory on average, serial 40% and 50%"
    assert said in texts(draw("utilisation", path))
    assert "**Holds.**" in findings("utilisation", path)
    assert "**Does not hold.**" in findings("utilisation", synthetic.utilisation(tmp_path, fused_sm=35, fused_dram=50))


def test_utilisation_shows_together_only_what_was_counted_alike(tmp_path):
    path = synthetic.utilisation(tmp_path)
    assert "streams" in texts(draw("utilisation", path)) and "by ncu" in texts(draw("utilisation", path))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(x.replace(";ncu", ";peak") if ";streams;" in x else x for x in lines) + "\n")
    assert "streams" not in texts(draw("utilisation", path))
    path.write_text("\n".join(x.replace(";ncu", ";peak") for x in lines) + "\n")
    shown = texts(draw("utilisation", path))
    assert "streams" in shown and "Percent of the measured ceilings" in shown


@pytest.mark.parametrize("suite", ["chunk_waves", "sweep", "trace", "batches"])
def test_the_limit_is_a_gpu_s(tmp_path, suite):
    us = {"fused": 100, "serial": 150, "prefill": 60, "decode": 80}
    if suite in ("trace", "batches"):
        path = synthetic.MAKERS[suite](tmp_path)
    else:
        path = synthetic.write(tmp_path / f"{suite}.csv", synthetic.BATCH_COLUMNS, synthetic.case(us))
    said = {"chunk_waves": "co-run limit", "sweep": "Dashed: the co-run limit", "trace": "Dashed: what both sides take",
            "batches": "co-run limit"}[suite]  # fmt: skip
    assert said in texts(draw(suite, path))
    path.write_text(path.read_text().replace("# device: cuda:0: NVIDIA H100", "# device: cpu: AMD EPYC"))
    assert said not in texts(draw(suite, path))


def test_labels_of_lines_stay_beside_their_axes(tmp_path):
    fig = draw("fusion_ways", synthetic.fusion_ways(tmp_path))
    fig.canvas.draw()
    (ax,) = fig.axes
    labels = [text for text in ax.texts if text.get_text().startswith("  ")]
    assert len(labels) == 6
    heights = [ax.transData.transform(text.get_position())[1] for text in labels]
    low, high = ax.get_window_extent().y0, ax.get_window_extent().y1
    assert all(low - 10 <= height <= high + 1 for height in heights)
    assert all(above - below > 10 for below, above in zip(heights, heights[1:]))


def with_spread(path, factor):
    """The file with turns that are so far apart."""
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    heading, *lines = [line.split(";") for line in path.read_text().splitlines() if not line.startswith("#")]
    rows = [dict(zip(heading, line)) for line in lines]
    for row in rows:
        for column, value in (("{}_us", float(row["median_us"])), ("to_fused_{}", 1)):
            row[column.format("p10")], row[column.format("p90")] = value / factor, value * factor
    text = [*comments[:-1], ";".join(heading), *(";".join(map(str, row.values())) for row in rows), comments[-1]]
    path.write_text("\n".join(text) + "\n")
    return path


@pytest.mark.parametrize("suite", ["chunk_waves", "batches"])
def test_a_title_says_nothing_of_what_the_turns_do_not_agree_on(tmp_path, suite):
    path = synthetic.MAKERS[suite](tmp_path)
    assert "the spread of the turns" not in texts(draw(suite, path))
    shown = texts(draw(suite, with_spread(path, 3)))
    assert "take the same time" in shown and "faster" not in shown
    assert suite != "chunk_waves" or "decode number 55 costs nothing beyond the spread of the turns" in shown


def test_kernels(tmp_path):
    path = synthetic.kernels(tmp_path)
    assert "sm90_fused_bf16_d128_c1 sm80_fused_bf16_d128_c2" in texts(draw("kernels", path))
    found = findings("kernels", path)
    assert "| `pod_sm90_fused_bf16_d128_c1` | 100 | 130 | 1.30 |" in found
    assert "**Holds.** Serial / fused over the device's kernels: 1.30× to 1.40×." in found
    assert "**Holds in part.**" in findings("kernels", synthetic.kernels(tmp_path, serial=90))


def test_chunk_waves(tmp_path):
    path = synthetic.chunk_waves(tmp_path)
    assert "decode number 55 costs fused +0.0%, serial +20.0%" in texts(draw("chunk_waves", path))
    assert "**Holds.** Serial +20.0%, fused +0.0%." in findings("chunk_waves", path)
    assert "does not arise here" in findings("chunk_waves", synthetic.chunk_waves(tmp_path, serial_55=254))


def test_chunk_waves_with_one_number_of_decodes_compares_no_waves(tmp_path):
    path = synthetic.write(
        tmp_path / "chunk_waves.csv", synthetic.BATCH_COLUMNS, synthetic.case({"fused": 1, "serial": 2})
    )
    shown = texts(draw("chunk_waves", path))
    assert "Fused is 2.00× faster than serial over a prompt's chunks" in shown and "costs" not in shown
    assert "waves are not compared" in findings("chunk_waves", path)


def test_fusion_ways(tmp_path):
    path = synthetic.fusion_ways(tmp_path)
    shown = texts(draw("fusion_ways", path))
    assert "SM-aware CTAs stay within 10% of the ideal; serial 2.00×, streams 1.90× at worst" in shown
    assert "**Holds.**" in findings("fusion_ways", path)
    assert "**Does not hold.**" in findings("fusion_ways", synthetic.fusion_ways(tmp_path, sm_aware=1.6))


def test_decode_tiles_compares_decode_alone(tmp_path):
    assert "Makes no difference" in findings("decode_tiles", synthetic.decode_tiles(tmp_path))
    assert "**Holds.**" in findings("decode_tiles", synthetic.decode_tiles(tmp_path, small=40))
    path = synthetic.decode_tiles(tmp_path, small=60)
    assert "**Does not hold.**" in findings("decode_tiles", path)
    shown = texts(draw("decode_tiles", path))
    assert "Tiles of 16 rows better on 1 of 1, tiles of 8 rows better on 0 of 1" in shown
    assert "tiles of 8 rows faster" in shown and "tiles of 16 rows faster" in shown
    same = texts(draw("decode_tiles", synthetic.decode_tiles(tmp_path, small=50.5)))
    assert "Tiles of 16 rows and tiles of 8 rows take the same time on all 1 batches, within 1.0%" in same


def test_sweep(tmp_path):
    path = synthetic.sweep(tmp_path, serial=140)
    assert "Fused beats serial on 4 of 4 batches: 1.40× on average, up to 1.40×" in texts(draw("sweep", path))
    assert "**Holds.**" in findings("sweep", path)
    assert "**Holds in part.**" in findings("sweep", synthetic.sweep(tmp_path, serial=115))
    assert "**Does not hold.**" in findings("sweep", synthetic.sweep(tmp_path, serial=90))


def test_titles_are_silent_of_what_is_within_the_spread_of_the_turns(tmp_path):
    same = "Fused and serial take the same time"
    assert f"{same} on all 4 batches" in texts(draw("sweep", synthetic.sweep(tmp_path, serial=140, spread=0.4)))
    assert f"{same} on all 4 batches" in texts(draw("sweep", synthetic.sweep(tmp_path, serial=101)))
    assert "beats serial on 4 of 4" in texts(draw("sweep", synthetic.sweep(tmp_path, serial=140, spread=0.2)))
    worse = texts(draw("sweep", synthetic.sweep(tmp_path, serial=80)))
    assert "Fused beats serial on 0 of 4 batches, serial beats fused on 4" in worse
    assert f"{same} over a prompt" in texts(draw("chunk_waves", synthetic.chunk_waves(tmp_path, spread=0.5)))
    assert f"{same} with every kernel" in texts(draw("kernels", synthetic.kernels(tmp_path, spread=0.5)))


def test_ctas_per_sm(tmp_path):
    path = synthetic.ctas_per_sm(tmp_path)
    assert "(at worst 50% slower)" in texts(draw("ctas_per_sm", path))
    assert "**Holds.** Each is clearly better on some batches" in findings("ctas_per_sm", path)
    assert "Only two CTAs per SM" in findings("ctas_per_sm", synthetic.ctas_per_sm(tmp_path, four=111))


def test_the_family_that_has_the_settings_is_named(tmp_path):
    path = synthetic.ticket_policy(tmp_path)
    lines = path.read_text().replace(";sm90a;", ";pod_sm80_fused_bf16_d128_c2;")
    path.write_text(lines)
    assert "A row is a batch, computed by kernel sm80." in texts(draw("ticket_policy", path))


def test_ticket_policy(tmp_path):
    assert "**Holds.**" in findings("ticket_policy", synthetic.ticket_policy(tmp_path))
    assert "**Does not hold.**" in findings("ticket_policy", synthetic.ticket_policy(tmp_path, half=80))


def test_trace(tmp_path):
    path = synthetic.trace(tmp_path)
    shown = texts(draw("trace", path))
    assert "Over 4 replayed steps serial takes 1.15× the time of fused, streams 1.10×" in shown
    assert "4 steps, 2 hybrid" in shown
    assert "**Holds for attention.**" in findings("trace", path)
    assert "**Does not hold.**" in findings("trace", synthetic.trace(tmp_path, serial=95))
    # Where steps with one kind of work differ, which are the same call twice, so much is noise.
    noisy = texts(draw("trace", synthetic.trace(tmp_path, serial=160, alone=165)))
    assert "Over 4 replayed steps fused and serial take the same time, within 65%, the noise" in noisy


def test_batches_counts_each_batch_once(tmp_path):
    path = synthetic.batches(tmp_path)
    shown = texts(draw("batches", path))
    assert "Fused is 1.36× faster than FlashAttention-3 at its best on balanced batches" in shown
    assert "ahead on 3 of all 3" in shown
    assert "co-run limit" in shown
    assert "Page size 16 costs +1.8% on average." in findings("batches", path)
    assert "1.10× slower than FlashAttention-3" in texts(draw("batches", synthetic.batches(tmp_path, fa3=100)))


def test_libraries_name_who_is_missing(tmp_path):
    path = synthetic.libraries(tmp_path)
    assert "Fused is 1.50× faster than FlashInfer POD, the fastest other over 1 batches" in texts(
        draw("libraries", path)
    )
    said = findings("libraries", path)
    assert "* fa3_mixed: vllm.vllm_flash_attn cannot be imported" in said and "out of memory" not in said


def test_a_library_that_took_part_in_few_batches_is_not_the_one_to_beat(tmp_path):
    rows = synthetic.compared({"fused": 100, "sdpa_cudnn": 101, "flashinfer_pod": 150}, "512@4096 16x1@4096")
    rows += synthetic.compared({"fused": 100, "flashinfer_pod": 150, "before": 90}, "1024@8192 16x1@4096")
    shown = texts(draw("libraries", synthetic.write(tmp_path / "libraries.csv", synthetic.COMPARED_COLUMNS, rows)))
    assert "Fused is 1.50× faster than FlashInfer POD, the fastest other over 2 batches" in shown
    assert "cuDNN (1 of 2)" in shown and "before" not in shown


def test_the_libraries_of_a_run_with_pauses_only_are_compared_with_pauses(tmp_path):
    path = synthetic.libraries_contiguous(tmp_path, sustained=None)
    assert "Fused is 1.25× faster than FlashAttention-3 at its best" in texts(draw("libraries_contiguous", path))
    assert "with pauses" not in findings("libraries_contiguous", path)


def test_flash_attention_3_is_compared_in_its_best_way_and_side_by_side(tmp_path):
    path = synthetic.libraries_contiguous(tmp_path)
    said, shown = findings("libraries_contiguous", path), texts(draw("libraries_contiguous", path))
    assert "Fused is 1.25× faster than FlashAttention-3 at its best, the fastest other over 2 batches" in shown
    assert "| FlashAttention-3, best | 2 | 1.25 | 1.20 to 1.30 | 1.25 | 1.20 to 1.30 |" in said
    assert "| FlashAttention-3, streams | 2 | 1.30 | 1.30 to 1.30 |" in said
    assert "alone |" not in said and "prefill alone" not in shown
    assert "| prefill | 2 | 1.15 | 1.10, 1024@8192 16x1@4096 |" in said
    assert "| decode | 2 | 1.04 | 1.04, 1024@8192 16x1@4096 |" in said


def test_without_both_libraries_sides_nothing_is_said_of_them(tmp_path):
    assert "Sides alone" not in findings("libraries", synthetic.libraries(tmp_path))
