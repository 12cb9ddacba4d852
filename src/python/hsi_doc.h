/* hsi_doc.h - the docstrings of HSI, for hsi.c alone. */
#ifndef MET_PY_HSI_DOC_H
#define MET_PY_HSI_DOC_H

#include <Python.h>

/* clang-format off */

PyDoc_STRVAR(hsi_doc,
"HSI(*, image, wavelengths, orientation=('C', 'H', 'W'), device=None, binary_mask=None)\n"
"--\n"
"\n"
"A hyperspectral image: values, the wavelengths of its bands, and which values to use.\n"
"\n"
"The image is a view of the memory that was given. It is copied only where a tensor can't share that memory: another\n"
"byte order, negative strides, another device. Read-only arrays and memory-mapped files are shared too.\n"
"\n"
"Parameters\n"
"----------\n"
"image : torch.Tensor, numpy.ndarray, DLPack or buffer object\n"
"    Three axes in the order of `orientation`, of bools, integers or floats; the dtype is kept.\n"
"wavelengths : torch.Tensor, numpy.ndarray, list, tuple or range\n"
"    Centre of each band in nm, shape ``(bands,)``: finite numbers above 0, in any order.\n"
"orientation : tuple, list or str\n"
"    The letters C (bands), H (rows) and W (columns) in the order of the image's axes.\n"
"device : str, torch.device or None\n"
"    Where image and mask live; None: where the image is.\n"
"binary_mask : torch.Tensor, numpy.ndarray, list, 'artificial' or None\n"
"    True, or any number but 0, means: use this value. Two axes are the spatial ones, in the image's order; other shapes\n"
"    are broadcast to that of the image. None: use all; ``'artificial'``: the pixels whose first band is not zero.\n"
"\n"
"Raises\n"
"------\n"
"TypeError\n"
"    An argument of a type that can't be used, or an image that is not 3-D.\n"
"ShapeMismatchError\n"
"    Wavelengths or mask that do not fit the image, or a mask that fits in two ways: ``(8, 8)`` in an HWC image of\n"
"    shape ``(8, 8, 8)`` could be rows and columns or, as broadcasting has it, columns and bands. Three axes say which.\n"
"OrientationError, DeviceError\n"
"    An orientation or a device that is none.\n"
"ValidationError\n"
"    The base of those three; by itself for an argument that is missing, an empty image, an unknown mask name, a mask of\n"
"    floats with NaN or infinity, or a wavelength that is NaN, infinite or not above 0.\n"
"\n"
"Notes\n"
"-----\n"
"Attributes can be replaced. Each new value is checked for itself; whether image, wavelengths, orientation and mask\n"
"agree is checked where they are used together. Two HSI are equal where all fields are, value by value (so an image\n"
"with NaN equals only itself); like other mutable values, they are not hashable.\n"
"\n"
"What is under the mask never has an effect, NaN and infinity included.\n"
"\n"
"Examples\n"
"--------\n"
">>> import torch\n"
">>> from meteors_c import HSI\n"
">>> HSI(image=torch.rand(3, 20, 30), wavelengths=[480.0, 560.0, 650.0])\n"
"HSI(shape=(3, 20, 30), dtype=torch.float32, orientation=CHW, wavelengths=480-650 nm, device=cpu, masked=False)");

PyDoc_STRVAR(image_doc,
"The values: a 3-D torch.Tensor on the memory that was given. Where that was read-only (an array that is not writeable,\n"
"a file mapped with mode 'r', bytes), the tensor must not be written to: torch does not refuse, and the process may end.\n"
"Take image.clone() instead.");

PyDoc_STRVAR(wavelengths_doc, "Centres of the bands in nm: torch.Tensor of shape (bands,).");

PyDoc_STRVAR(orientation_doc, "The letters C, H and W in the order of the image's axes, as a tuple.");

PyDoc_STRVAR(device_doc, "The torch.device where masks and later work go. Replacing it moves nothing: see to().");

PyDoc_STRVAR(mask_doc,
"Which values to use: bool torch.Tensor of the image's shape. It may repeat memory along axes that it does not depend\n"
"on, or share memory that was given as read-only: assign another mask rather than write to it. Assigning None means all.");

PyDoc_STRVAR(spectral_axis_doc, "The axis of the bands: 0, 1 or 2.");

PyDoc_STRVAR(spatial_mask_doc, "The mask at the first band: bool torch.Tensor over the two spatial axes.");

PyDoc_STRVAR(to_doc,
"to($self, /, device)\n"
"--\n"
"\n"
"Move image and mask, in place.\n"
"\n"
"Parameters\n"
"----------\n"
"device : str or torch.device\n"
"\n"
"Returns\n"
"-------\n"
"HSI\n"
"    This object.\n"
"\n"
"Raises\n"
"------\n"
"DeviceError\n"
"    There is no such device; nothing has changed.\n"
"\n"
"Examples\n"
"--------\n"
">>> hsi.to(\"cpu\").device\n"
"device(type='cpu')");

PyDoc_STRVAR(change_orientation_doc,
"change_orientation($self, /, target_orientation, inplace=False)\n"
"--\n"
"\n"
"Permute the axes of image and mask, as views of the same memory.\n"
"\n"
"Parameters\n"
"----------\n"
"target_orientation : tuple, list or str\n"
"    C, H and W in the order wanted.\n"
"inplace : bool\n"
"    Change this object instead of returning another one.\n"
"\n"
"Returns\n"
"-------\n"
"HSI\n"
"    This object, or a new one that shares all other fields.\n"
"\n"
"Raises\n"
"------\n"
"OrientationError\n"
"    A ValueError; nothing has changed.\n"
"\n"
"Examples\n"
"--------\n"
">>> hsi.image.shape, hsi.change_orientation(\"HWC\").image.shape\n"
"(torch.Size([150, 48, 48]), torch.Size([48, 48, 150]))");

PyDoc_STRVAR(get_image_doc,
"get_image($self, /, apply_mask=True)\n"
"--\n"
"\n"
"The image with unused values set to zero.\n"
"\n"
"Parameters\n"
"----------\n"
"apply_mask : bool\n"
"    False: the image itself, not a copy.\n"
"\n"
"Returns\n"
"-------\n"
"torch.Tensor\n"
"    The image where the mask is true and 0 elsewhere, also where the image is NaN or infinite there, in a new tensor of\n"
"    the image's shape and dtype; differentiable where the image is.\n"
"\n"
"Examples\n"
"--------\n"
">>> masked = HSI(image=torch.ones(2, 2, 2), wavelengths=[550.0, 650.0], binary_mask=[[1, 0], [1, 1]])\n"
">>> masked.get_image()[0]\n"
"tensor([[1., 0.],\n"
"        [1., 1.]])");

#define BAND_PARAMETERS \
    "apply_mask : bool\n" \
    "    Set unused values to zero; they do not count where the others are stretched.\n" \
    "apply_min_cutoff : bool\n" \
    "    Take the minimum over the values that are not zero, and set the smallest values to zero afterwards. Ignored\n" \
    "    without `normalize`.\n"

PyDoc_STRVAR(extract_band_doc,
"extract_band_by_name($self, /, band_name, selection_method='center',\n"
"                     apply_mask=True, apply_min_cutoff=False, normalize=True)\n"
"--\n"
"\n"
"The central band of a named range of wavelengths.\n"
"\n"
"Parameters\n"
"----------\n"
"band_name : str\n"
"    A name of spyndex's band table, such as 'R', 'RE1' or 'N'.\n"
"selection_method : str\n"
"    Only 'center': of the m bands inside the range, in ascending order of wavelength, the one at m // 2.\n"
BAND_PARAMETERS
"normalize : bool\n"
"    Stretch the finite values to [0, 1]; NaN and infinity become 0. A constant band stays as it is.\n"
"\n"
"Returns\n"
"-------\n"
"torch.Tensor\n"
"    The two spatial axes in the image's order. Integers become float32 where they are normalised.\n"
"\n"
"Raises\n"
"------\n"
"BandSelectionError\n"
"    An unknown name, or no wavelength of the image inside its range.\n"
"NotImplementedError\n"
"    Another selection method.\n"
"\n"
"Examples\n"
"--------\n"
">>> red = hsi.extract_band_by_name(\"R\")\n"
">>> red.shape, float(red.min()), float(red.max())\n"
"(torch.Size([48, 48]), 0.0, 1.0)");

PyDoc_STRVAR(get_rgb_doc,
"get_rgb_image($self, /, apply_mask=True, apply_min_cutoff=False,\n"
"              output_channel_axis=None, normalize=True)\n"
"--\n"
"\n"
"The bands R, G and B, stacked.\n"
"\n"
"Parameters\n"
"----------\n"
BAND_PARAMETERS
"output_channel_axis : int or None\n"
"    Where the three colours go; None: where the bands are.\n"
"normalize : bool\n"
"    Stretch each colour to [0, 1].\n"
"\n"
"Returns\n"
"-------\n"
"torch.Tensor\n"
"    Three axes, the spatial ones in the image's order.\n"
"\n"
"Raises\n"
"------\n"
"BandSelectionError\n"
"    The image has no wavelength in one of the three ranges; see get_picture().\n"
"\n"
"Examples\n"
"--------\n"
">>> hsi.get_rgb_image(output_channel_axis=2).shape\n"
"torch.Size([48, 48, 3])");

PyDoc_STRVAR(get_picture_doc,
"get_picture($self, /, apply_mask=True, apply_min_cutoff=False,\n"
"            output_channel_axis=None)\n"
"--\n"
"\n"
"A picture of any image, and a note where its colours are false.\n"
"\n"
"The bands R, G and B where the image has all three. Otherwise, of its bands in ascending order of wavelength, the ones\n"
"at 5/6, 1/2 and 1/6 are shown as red, green and blue: the longest wavelength is red, and fewer than three bands are\n"
"repeated.\n"
"\n"
"Parameters\n"
"----------\n"
BAND_PARAMETERS
"output_channel_axis : int or None\n"
"    Where the three colours go; None: where the bands are.\n"
"\n"
"Returns\n"
"-------\n"
"picture : torch.Tensor\n"
"    Three axes, the spatial ones in the image's order; each colour stretched to [0, 1] as in extract_band_by_name().\n"
"note : str or None\n"
"    None where the colours are red, green and blue; otherwise the bands, for a title.\n"
"\n"
"Examples\n"
"--------\n"
">>> import torch\n"
">>> from meteors_c import HSI\n"
">>> picture, note = HSI(image=torch.rand(3, 20, 30), wavelengths=[1000, 1300, 1600]).get_picture()\n"
">>> note\n"
"'bands at 1000, 1300, 1600 nm'");

PyDoc_STRVAR(substitute_bands_doc,
"_substitute_bands($self, /)\n"
"--\n"
"\n"
"The bands that get_picture() shows as red, green and blue where the image lacks those.\n"
"\n"
"Returns\n"
"-------\n"
"tuple of int\n"
"    Three indices, that of the longest wavelength first.");

PyDoc_STRVAR(central_slice_doc,
"_extract_central_slice_from_band($self, /, band_wavelengths, apply_mask=True,\n"
"                                 apply_min_cutoff=False, normalize=True)\n"
"--\n"
"\n"
"The band at m // 2 of m wavelengths in ascending order; see extract_band_by_name().\n"
"\n"
"Parameters\n"
"----------\n"
"band_wavelengths : torch.Tensor, numpy.ndarray, list or tuple\n"
"    Wavelengths of the image, nm.\n"
BAND_PARAMETERS
"normalize : bool\n"
"    Stretch the band to [0, 1].\n"
"\n"
"Returns\n"
"-------\n"
"torch.Tensor\n"
"    The two spatial axes in the image's order.\n"
"\n"
"Raises\n"
"------\n"
"ValueError\n"
"    No wavelength, or one that the image does not have.");

PyDoc_STRVAR(model_copy_doc,
"model_copy($self, /, *, update=None, deep=False)\n"
"--\n"
"\n"
"A copy that shares image, wavelengths and mask.\n"
"\n"
"Parameters\n"
"----------\n"
"update : dict or None\n"
"    Attributes to set on the copy.\n"
"deep : bool\n"
"    Copy the values too.\n"
"\n"
"Returns\n"
"-------\n"
"HSI\n"
"\n"
"Examples\n"
"--------\n"
">>> unmasked = hsi.model_copy(update={\"binary_mask\": None})\n"
">>> unmasked.image is hsi.image or unmasked.image.data_ptr() == hsi.image.data_ptr()\n"
"True");

#undef BAND_PARAMETERS

/* clang-format on */

#endif
