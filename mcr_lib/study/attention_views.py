"""Notebook 06, last section: where settings look when they write a box, and whether it matters to the box.

For thin cells (nothing is done, and nothing drawn, where the profile's `attention_examples` is 0):

    looks = attention_views.looks(study, names)              # setting -> its looks at up to attention_examples tweets of eval_split;
                                                             # settings whose answers or model are not there are left out
    print(attention_views.told(looks, names, cfg.config))    # what was looked at, what is missing
    rows = attention_views.rows(looks)                       # setting, part (answer | reasoning), mass and cut, with intervals
    if rows:
        plots.save(attention_views.masses(rows), folder.figures, "06_attention", rows)
        plots.save(attention_views.cuts(rows), folder.figures, "06_attention_cut", rows)
        plots.save(attention_views.overlays(looks, n=3), folder.figures, "06_attention_overlay", attention_views.drawn_rows(looks, n=3))
    attention_views.result_rows(rows, split, seed, signature)   # rows of results.csv: attention_gold_answer, cut_image_reasoning, ...
"""
