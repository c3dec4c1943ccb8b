"""The layout of TensorBoard's page CUSTOM SCALARS: what tells a sick GAN from a healthy one, from top to bottom."""

LAYOUT: dict[str, dict[str, list[str | list[str]]]] = {
    "Who wins": {
        "image discriminator: right on real and on fake frames": ["Multiline", [r"accuracy/(image|face)/(real|fake)"]],
        "temporal discriminators: the same": ["Multiline", [r"accuracy/temporal_\d+/(real|fake)"]],
        "losses of the discriminators": ["Multiline", [r"loss/D_.*"]],
        "adversarial losses of the generator": ["Multiline", [r"loss/G_(T_|f_)?GAN\d*$"]],
    },
    "What drives the generator": {
        "share of each critic in the gradient at its frames": ["Multiline", [r"gradient_share/.*"]],
        "share of each loss, by size": ["Multiline", [r"loss_share/.*"]],
        "gradient norms": ["Multiline", [r"gradient_norm/.*"]],
        "L1 to the real frames, not trained on": ["Multiline", [r"loss/L1", r"validation/L1_.*"]],
    },
    "Motion": {
        "warp error on the validation clips, real frames beside": ["Multiline", [r"validation/warp_error_.*"]],
        "warp error and flow losses": ["Multiline", [r"loss/(G_Warp|F_Flow|F_Warp|W)$"]],
        "length of the flow, predicted and reference": ["Multiline", [r"sample/flow(_ref)?$"]],
        "change from frame to frame against the real frames": ["Multiline", [r"sample/motion"]],
    },
    "Machine": {
        "frames per second": ["Multiline", [r"speed/frames_per_second"]],
        "waiting: for data, for other ranks": ["Multiline", [r"speed/loader_share", r"rank\d+/waiting"]],
        "power of each GPU": ["Multiline", [r"gpu\d+/power"]],
        "energy of each GPU so far": ["Multiline", [r"gpu\d+/energy"]],
    },
}
"""Regular expressions of tags by category and chart, as `torch.utils.tensorboard` takes them."""
