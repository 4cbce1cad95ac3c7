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
    assert "NVIDIA H100, kernel sm90a · podattn bench suite" in texts(fig)
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


def test_limits(tmp_path):
    path = synthetic.limits(tmp_path, both_tflops=480)
    assert "Beside full reading, the chip keeps 75% of its arithmetic" in texts(draw("limits", path))
    assert "**Holds.**" in findings("limits", path)
    assert "**Holds in part.**" in findings("limits", synthetic.limits(tmp_path, both_tflops=100))


def test_fig1(tmp_path):
    path = synthetic.fig1(tmp_path)
    assert "Fused uses 60% of the SMs and 70% of the memory, serial 40% and 50%" in texts(draw("fig1", path))
    assert "**Holds.**" in findings("fig1", path)
    assert "**Does not hold.**" in findings("fig1", synthetic.fig1(tmp_path, fused_sm=35, fused_dram=50))


def test_fig1_shows_together_only_what_was_counted_alike(tmp_path):
    path = synthetic.fig1(tmp_path)
    assert "streams" in texts(draw("fig1", path)) and "by ncu" in texts(draw("fig1", path))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(x.replace(";ncu", ";limits") if ";streams;" in x else x for x in lines) + "\n")
    assert "streams" not in texts(draw("fig1", path))
    path.write_text("\n".join(x.replace(";ncu", ";limits") for x in lines) + "\n")
    shown = texts(draw("fig1", path))
    assert "streams" in shown and "Percent of the measured ceilings" in shown


@pytest.mark.parametrize("suite", ["fig6", "fig11", "trace", "peers"])
def test_the_limit_is_a_gpu_s(tmp_path, suite):
    us = {"fused": 100, "serial": 150, "prefill": 60, "decode": 80}
    if suite in ("trace", "peers"):
        path = synthetic.MAKERS[suite](tmp_path)
    else:
        path = synthetic.write(tmp_path / f"{suite}.csv", synthetic.BATCH_COLUMNS, synthetic.case(us))
    said = {"fig6": "co-run limit", "fig11": "Dashed: the co-run limit", "trace": "Dashed: what both sides take",
            "peers": "co-run limit"}[suite]  # fmt: skip
    assert said in texts(draw(suite, path))
    path.write_text(path.read_text().replace("# device: cuda:0: NVIDIA H100", "# device: cpu: AMD EPYC"))
    assert said not in texts(draw(suite, path))


def test_labels_of_lines_stay_beside_their_axes(tmp_path):
    fig = draw("fig7", synthetic.fig7(tmp_path))
    fig.canvas.draw()
    (ax,) = fig.axes
    labels = [text for text in ax.texts if text.get_text().startswith("  ")]
    assert len(labels) == 6
    heights = [ax.transData.transform(text.get_position())[1] for text in labels]
    low, high = ax.get_window_extent().y0, ax.get_window_extent().y1
    assert all(low - 10 <= height <= high + 1 for height in heights)
    assert all(above - below > 10 for below, above in zip(heights, heights[1:]))


def test_fig6(tmp_path):
    path = synthetic.fig6(tmp_path)
    assert "decode number 55 costs fused +0.0%, serial +20.0%" in texts(draw("fig6", path))
    assert "**Holds.** Serial +20.0%, fused +0.0%." in findings("fig6", path)
    assert "does not arise here" in findings("fig6", synthetic.fig6(tmp_path, serial_55=254))


def test_fig6_with_one_number_of_decodes_compares_no_waves(tmp_path):
    path = synthetic.write(tmp_path / "fig6.csv", synthetic.BATCH_COLUMNS, synthetic.case({"fused": 1, "serial": 2}))
    shown = texts(draw("fig6", path))
    assert "Fused is 2.00× faster than serial over a prompt's chunks" in shown and "costs" not in shown
    assert "waves are not compared" in findings("fig6", path)


def test_fig7(tmp_path):
    path = synthetic.fig7(tmp_path)
    shown = texts(draw("fig7", path))
    assert "SM-aware CTAs stay within 10% of the ideal; serial 2.00×, streams 1.90× at worst" in shown
    assert "**Holds.**" in findings("fig7", path)
    assert "**Does not hold.**" in findings("fig7", synthetic.fig7(tmp_path, sm_aware=1.6))


def test_fig10_compares_decode_alone(tmp_path):
    assert "Makes no difference" in findings("fig10", synthetic.fig10(tmp_path))
    assert "**Holds.**" in findings("fig10", synthetic.fig10(tmp_path, small=40))
    path = synthetic.fig10(tmp_path, small=60)
    assert "**Does not hold.**" in findings("fig10", path)
    shown = texts(draw("fig10", path))
    assert "Tiles of 16 rows better on 1 of 1 (at worst 0% slower), tiles of 8 rows better on 0 of 1" in shown
    assert "tiles of 8 rows faster" in shown and "tiles of 16 rows faster" in shown
    same = texts(draw("fig10", synthetic.fig10(tmp_path, small=50.5)))
    assert "Tiles of 16 rows and tiles of 8 rows take the same time on all 1 batches, within 1.0%" in same


def test_fig11(tmp_path):
    path = synthetic.fig11(tmp_path, serial=140)
    assert "Fused beats serial on 4 of 4 batches: 1.40× on average, up to 1.40×" in texts(draw("fig11", path))
    assert "**Holds.**" in findings("fig11", path)
    assert "**Holds in part.**" in findings("fig11", synthetic.fig11(tmp_path, serial=115))
    assert "**Does not hold.**" in findings("fig11", synthetic.fig11(tmp_path, serial=90))


def test_fig13(tmp_path):
    path = synthetic.fig13(tmp_path)
    assert "(at worst 50% slower)" in texts(draw("fig13", path))
    assert "**Holds.** Each is clearly better on some batches" in findings("fig13", path)
    assert "Only two CTAs per SM" in findings("fig13", synthetic.fig13(tmp_path, four=111))


def test_the_family_that_has_the_settings_is_named(tmp_path):
    path = synthetic.fig14(tmp_path)
    lines = path.read_text().replace(";sm90a;", ";pod_sm80_fused_bf16_d128_c2;")
    path.write_text(lines)
    assert "A row is a batch, computed by kernel sm80." in texts(draw("fig14", path))


def test_fig14(tmp_path):
    assert "**Holds.**" in findings("fig14", synthetic.fig14(tmp_path))
    assert "**Does not hold.**" in findings("fig14", synthetic.fig14(tmp_path, half=80))


def test_trace(tmp_path):
    path = synthetic.trace(tmp_path)
    shown = texts(draw("trace", path))
    assert "Over 4 replayed steps serial takes 1.30× the time of fused, streams 1.10×" in shown
    assert "4 steps, 2 hybrid" in shown
    assert "**Holds for attention.**" in findings("trace", path)
    assert "**Does not hold.**" in findings("trace", synthetic.trace(tmp_path, serial=95))


def test_peers_counts_each_batch_once(tmp_path):
    path = synthetic.peers(tmp_path)
    shown = texts(draw("peers", path))
    assert "Fused is 1.36× faster than FlashAttention-3 at its best on balanced batches" in shown
    assert "ahead on 3 of all 3" in shown
    assert "co-run limit" in shown
    assert "Page size 16 costs +1.8% on average." in findings("peers", path)
    assert "1.10× slower than FlashAttention-3" in texts(draw("peers", synthetic.peers(tmp_path, fa3=100)))


def test_libraries_name_who_is_missing(tmp_path):
    path = synthetic.libraries(tmp_path)
    assert "Fused is 1.50× faster than FlashInfer POD, the fastest other over 1 batches" in texts(
        draw("libraries", path)
    )
    assert "* fa3_mixed: vllm.vllm_flash_attn cannot be imported" in findings("libraries", path)


def test_a_library_that_took_part_in_few_batches_is_not_the_one_to_beat(tmp_path):
    rows = synthetic.case({"fused": 100, "sdpa_cudnn": 101, "flashinfer_pod": 150}, "512@4096")
    rows += synthetic.case({"fused": 100, "flashinfer_pod": 150}, "1024@8192")
    shown = texts(draw("libraries", synthetic.write(tmp_path / "libraries.csv", synthetic.BATCH_COLUMNS, rows)))
    assert "Fused is 1.50× faster than FlashInfer POD, the fastest other over 2 batches" in shown
    assert "cuDNN (1 of 2)" in shown


def test_flash_attention_3_is_compared_in_its_best_way_and_side_by_side(tmp_path):
    path = synthetic.libraries_contiguous(tmp_path)
    said, shown = findings("libraries_contiguous", path), texts(draw("libraries_contiguous", path))
    assert "Fused is 1.25× faster than FlashAttention-3 at its best, the fastest other over 2 batches" in shown
    assert "| FlashAttention-3, best | 2 | 1.25 | 1.20 to 1.30 |" in said
    assert "| FlashAttention-3, streams | 2 | 1.30 | 1.30 to 1.30 |" in said
    assert "alone |" not in said and "prefill alone" not in shown
    assert "| prefill | 2 | 1.15 | 1.10, 1024@8192 + 16@4096 |" in said
    assert "| decode | 2 | 1.04 | 1.04, 1024@8192 + 16@4096 |" in said


def test_without_both_libraries_sides_nothing_is_said_of_them(tmp_path):
    assert "Sides alone" not in findings("libraries", synthetic.libraries(tmp_path))
